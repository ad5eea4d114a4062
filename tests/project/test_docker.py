"""The Dockerfile and docker-compose.yml, as far as they can be checked without Docker."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from junebug_turn.daemon.settings import load
from tests.support.configurations import JUNEBUG, only

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with its arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.split(None, 1) for line in lines if line.strip()]
    return [(word, arguments) for word, arguments in found]


def of(word: str) -> list[str]:
    return [arguments for name, arguments in instructions() if name == word]


def flags() -> list[str]:
    """The image's own flags, which the arguments of docker run replace."""
    (command,) = of("CMD")
    found: list[str] = json.loads(command)
    return found


def image_flags() -> dict[str, str]:
    """The image's own flags, as ``load`` takes them."""
    pairs = (flag.removeprefix("--").partition("=") for flag in flags())
    return {name.replace("-", "_"): value for name, _, value in pairs}


def copied() -> list[str]:
    """What is copied from the project."""
    return [
        source
        for arguments in of("COPY")
        if not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]


def images() -> dict[str, str]:
    """Each image that is not built here, with its place."""
    text = (ROOT / "Dockerfile").read_text()
    found = dict(re.findall(r"^ARG (PYTHON_IMAGE)=(.*)", text, re.MULTILINE))
    for path in ("docker-compose.yml", "tools/demo/compose.yaml"):
        services = yaml.safe_load((ROOT / path).read_text())["services"]
        found |= {
            f"{path}: {name}": service["image"]
            for name, service in services.items()
            if "build" not in service
        }
    return found


def test_digests() -> None:
    """Each image is named by its tag and its digest, so that every build has the same one."""
    found = images()
    assert len(found) == 4
    assert [
        place
        for place, image in found.items()
        if not re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image)
    ] == []
    assert {arguments.split()[0] for arguments in of("FROM")} == {"${PYTHON_IMAGE}"}
    assert len({image for image in found.values() if image.startswith("rabbitmq:")}) == 1


class TestDockerfile:
    def test_sources(self) -> None:
        """Everything that is copied is there, and .dockerignore lets it, and nothing else, through."""
        let_through = {
            line.removeprefix("!")
            for line in (ROOT / ".dockerignore").read_text().splitlines()
            if line.startswith("!")
        }
        assert let_through == set(copied())
        assert all((ROOT / source).exists() for source in copied())

    def test_wheel(self, tmp_path: Path) -> None:
        """From what is copied, and nothing else, the complete wheel is built."""
        tree = tmp_path / "tree"
        tree.mkdir()
        for source in copied():
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, tree / source, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache")
                )
            elif "/" not in source:
                shutil.copy(ROOT / source, tree)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "--wheel-dir", str(tmp_path), "."], cwd=tree, check=True, timeout=100)
        (wheel,) = tmp_path.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "junebug_turn").rglob("*.py")}
        assert names >= modules | {
            "junebug_turn/amqp/amqp0-9-1.xml",
            "twisted/plugins/junebug_turn_plugin.py",
        }

    def test_no_configuration(self) -> None:
        """The image has no configuration and no variable of its own that could beat the operator's, and with
        VUMI_CONFIG_PREFIX it listens as before."""
        assert not any(source.startswith("etc/") for source in copied())
        last_stage = max(number for number, (word, _) in enumerate(instructions()) if word == "FROM")
        assert "ENV" not in [word for word, _ in instructions()[last_stage:]]
        environ = {
            f"DEV_{name.upper()}": str(value) for name, value in JUNEBUG.items() if name != "http_bind"
        }
        options = only(load(image_flags(), environ | {"VUMI_CONFIG_PREFIX": "dev"}))
        assert (str(options.http_bind), options.connector_name) == ("0.0.0.0:8080", JUNEBUG["connector_name"])

    def test_not_root(self) -> None:
        """The last stage runs as a user that isn't root, by number, so that Kubernetes can see it."""
        words = instructions()
        last_stage = max(number for number, (word, _) in enumerate(words) if word == "FROM")
        (user,) = [arguments for word, arguments in words[last_stage:] if word == "USER"]
        assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)

    def test_command(self) -> None:
        """The daemon is the container's first process, in the foreground, as exec has it."""
        (entry,) = of("ENTRYPOINT")
        assert json.loads(entry)[1:] == ["--nodaemon", "--pidfile=", "junebug-turn"]
        assert of("STOPSIGNAL") == ["SIGTERM"]

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (500, 1), (None, 1)])
    def test_health_check(self, status: int | None, code: int) -> None:
        """The health check's command tells a daemon that is well from one that isn't, and from none."""
        (check,) = of("HEALTHCHECK")
        _, command = check.split("CMD ")
        python, *arguments = json.loads(command)
        assert python == "/opt/junebug-turn/bin/python"
        assert "--http-bind=0.0.0.0:8080" in flags()
        with serving(status) as port:
            arguments[-1] = arguments[-1].replace(":8080", f":{port}")
            ended = subprocess.run([sys.executable, *arguments], capture_output=True, timeout=30, check=False)
        assert ended.returncode == code


class serving:
    """An HTTP server whose /health answers ``status``; nobody listens where that is None."""

    def __init__(self, status: int | None) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if status and self.path == "/health" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._silent = status is None

    def __enter__(self) -> int:
        if self._silent:
            self._server.server_close()
        else:
            self._thread.start()
        return int(self._server.server_port)

    def __exit__(self, *_: object) -> None:
        if not self._silent:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


class TestCompose:
    def test_configuration(self, compose: Any, tmp_path: Path) -> None:
        """The daemon's configuration loads with what the container's environment adds, its secrets as files."""
        daemon = compose["services"]["junebug-turn"]
        (mounted,) = daemon["volumes"]
        ours, inside, mode = mounted.split(":")
        variables = dict(daemon["environment"])
        assert (variables.pop("JUNEBUG_TURN_CONFIG_FILE"), mode) == (inside, "ro")
        environ = {"JUNEBUG_TURN_CONFIG_FILE": str(ROOT / ours)}
        for name, value in variables.items():
            assert value.startswith("/run/secrets/")
            secret = tmp_path / Path(value).name
            secret.write_text("s3cret\n")
            assert secret.name in compose["services"]["junebug-turn"]["secrets"]
            environ[name] = str(secret)
        settings = load(image_flags(), environ)
        assert settings.daemon.amqp.password == "s3cret"
        assert settings.daemon.amqp.hostname in compose["services"]
        assert str(only(settings).http_bind) == "0.0.0.0:8080"
        grace = compose["services"]["junebug-turn"]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > settings.daemon.shutdown_timeout

    def test_secrets(self, compose: Any) -> None:
        """No secret stands in the file: each is a file in secrets/, which git and the image leave out."""
        used = set()
        for service in compose["services"].values():
            for secret in service.get("secrets", ()):
                used.add(secret if isinstance(secret, str) else secret["source"])
        assert used == set(compose["secrets"])
        for secret in compose["secrets"].values():
            assert secret["file"].startswith("./secrets/")
        assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
        assert "PASS:" not in (ROOT / "docker-compose.yml").read_text()

    def test_reachable(self, compose: Any) -> None:
        """Only the HTTP port is published, on this machine; each service has its health check."""
        for name, service in compose["services"].items():
            assert [port.split(":")[0] for port in service.get("ports", ())] == (
                ["127.0.0.1"] if name == "junebug-turn" else []
            )
            assert "healthcheck" in service or name == "junebug-turn"
