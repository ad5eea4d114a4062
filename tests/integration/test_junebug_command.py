"""The command line and the configuration file of Junebug, with the real daemon as a process."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import JB, TWISTD, RunCommand, asked, wait_for
from tests.support.store_harness import redis_server
from tools.servers.process import free_port


def junebug_yml(folder: Path, port: int) -> Path:
    """A junebug.yml, with a broker that is not there."""
    redis = redis_server()
    file = folder / "junebug.yml"
    file.write_text(
        f"""\
interface: 127.0.0.1
port: {port}
redis: {{host: {redis.host}, port: {redis.port}, db: 0, key_prefix: {folder.name}}}
amqp: {{hostname: 127.0.0.1, port: {free_port()}, username: vumi, password: s3cret, vhost: /}}
plugins: [{{type: junebug.plugins.nginx.NginxPlugin, server_name: _}}]
max_log_files: 3
"""
    )
    return file


def test_jb(tmp_path: Path, run_command: RunCommand) -> None:
    """``jb`` runs the daemon in the foreground, with the flags over junebug.yml: it has the channels of the Redis; what
    has no meaning here is named in one warning each."""
    port = free_port()
    process = run_command(*JB, "-c", str(junebug_yml(tmp_path, 1)), "-p", str(port), "-l", "jb.log")
    wait_for(f"http://127.0.0.1:{port}/channels/", process, tmp_path / "output")
    assert asked(f"http://127.0.0.1:{port}/channels/") == (
        200,
        {"status": 200, "code": "OK", "description": "channels listed", "result": []},
    )
    log = (tmp_path / "jb.log").read_text()
    for option in ("plugins", "max_log_files"):
        assert log.count(f"an option without effect: {option}: ") == 1
    assert "s3cret" not in log
    assert "Traceback" not in log


def test_docker_junebug(tmp_path: Path, run_command: RunCommand) -> None:
    """With docker-junebug's variables the API is below /jb with Basic authentication, /jb/health without."""
    port, redis = free_port(), redis_server()
    environ = {
        "JUNEBUG_INTERFACE": "127.0.0.1",
        "JUNEBUG_PORT": str(port),
        "REDIS_HOST": redis.host,
        "REDIS_PORT": str(redis.port),
        "REDIS_DB": "7",
        "AMQP_HOST": "127.0.0.1",
        "AMQP_PORT": str(free_port()),
        "AUTH_USERNAME": "jb",
        "AUTH_PASSWORD": "word",
        "JUNEBUG_TURN_CONFIG_FILE": str(tmp_path / "absent.yaml"),
    }
    process = run_command(*JB, **environ)
    base = f"http://127.0.0.1:{port}/jb"
    wait_for(f"{base}/health", process, tmp_path / "output")
    # There is no broker: not well, but an answer to everybody.
    assert asked(f"{base}/health")[0] == 500
    assert asked(f"{base}/channels/")[0] == 401
    assert asked(f"{base}/channels/", Authorization="Basic amI6d29yZA==")[1]["result"] == []
    assert asked(f"http://127.0.0.1:{port}/channels/")[0] == 404


def test_twistd(tmp_path: Path, run_command: RunCommand) -> None:
    """``twistd junebug-turn --config junebug.yml`` understands the same file."""
    port = free_port()
    process = run_command(*TWISTD, "--config", str(junebug_yml(tmp_path, port)))
    url = f"http://127.0.0.1:{port}/channels/"
    wait_for(url, process, tmp_path / "output")
    assert asked(url)[1]["description"] == "channels listed"


def test_faults(tmp_path: Path, run_command: RunCommand) -> None:
    """A wrong value ends ``jb`` with status 1 and one line that names its flag, a file that is absent with its name."""
    process = run_command(*JB, "-p", "no", "-c", "absent.yml")
    assert process.wait(60) == 1
    lines = (tmp_path / "output").read_text().splitlines()
    assert all(line.startswith("junebug-turn: ") for line in lines), lines
    assert any("flag --port" in line for line in lines)
    assert any("absent.yml" in line for line in lines)
