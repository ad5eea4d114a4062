"""``junebug-turn import-junebug``: an old deployment as a configuration file, with the real daemon on what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
import yaml

from junebug_turn.cli.main import main
from junebug_turn.daemon.settings import load
from tests.conftest import pika_connection
from tests.support.commands import ROOT, TWISTD, RunCommand, asked, wait_for
from tests.support.daemon import taken, until
from tests.support.store_harness import redis_server
from tools.old_junebug.__main__ import junebug_yml
from tools.old_junebug.deployment import Deployment
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver
from tools.servers.redis import commands

# Everything in a Redis but when it expires.
DIGEST = """
local keys, found = redis.call('KEYS', ARGV[1] .. '*'), {}
table.sort(keys)
for _, key in ipairs(keys) do
    local kind = redis.call('TYPE', key).ok
    local value = kind == 'string' and {redis.call('GET', key)} or kind == 'set' and redis.call('SMEMBERS', key)
        or redis.call('HGETALL', key)
    table.sort(value)
    found[#found + 1] = key .. ' ' .. kind .. ' ' .. table.concat(value, ' ')
end
return redis.sha1hex(table.concat(found, '\\n'))
"""


def command(*args: str, folder: Path, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "junebug_turn.cli.main", "import-junebug", *args],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest_twisted.ensureDeferred
async def test_the_daemon_runs_on_it(
    rabbitmq: RabbitNode, vhost: str, receiver: Receiver, run_command: RunCommand, tmp_path: Path
) -> None:
    """The file that it writes starts a daemon with an application for each channel: replies and events of messages
    from before the switch arrive.  It has no API of channels.  Nothing in Redis is changed, and nobody else can read
    the file."""
    receiver_url = receiver.url("")
    deployment = Deployment.of(receiver_url)
    redis, prefix, port = redis_server().url, tmp_path.name, free_port()
    commands(redis, list(deployment.commands(receiver_url, prefix)))
    broker = f"amqp://{rabbitmq.username}:{quote(rabbitmq.password)}@{rabbitmq.host}:{rabbitmq.port}/{vhost}"
    (tmp_path / "junebug.yml").write_text(junebug_yml(redis, broker, port, prefix))

    digest = commands(redis, [("EVAL", DIGEST, "0", prefix)])
    status, out, err = command("--redis", redis, "--config", "junebug.yml", folder=tmp_path)
    assert (status, err) == (0, "")
    assert commands(redis, [("EVAL", DIGEST, "0", prefix)]) == digest
    file = tmp_path / "junebug-turn.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    routed = {router["config"]["channel"] for router in deployment.routers.values()}
    for name in (*routed, *deployment.routers, "plugins", "logging_path"):
        assert any(line.startswith("- ") and name in line for line in out.splitlines()), name
    assert file.read_text().count("\n  # Channel ") == len(deployment.channels)
    carried = deployment.channels.keys() - routed
    assert {each.connector_name for each in load({"config": str(file)}, {}).applications} == carried
    for properties in deployment.channels.values():
        assert properties.get("mo_url_auth_token", "none") not in out

    process = run_command(*TWISTD, "--config", str(file))
    base = f"http://127.0.0.1:{port}"
    wait_for(f"{base}/health", process, tmp_path / "output", 200)
    connection = pika_connection(rabbitmq, vhost)
    transport = connection.channel()
    for path in ("channels/", *(f"channels/{id}" for id in sorted(carried)[:1])):
        assert asked(f"{base}/{path}")[0] == 404
    some = [id for id in sorted(carried) if "mo_url" in deployment.channels[id]][:5]
    for id in some:
        reply = {"reply_to": deployment.received[id], "content": "an answer"}
        code, answer = asked(f"{base}/channels/{id}/messages/", reply)
        assert code == 201, answer
        sent = await taken(transport, f"{id}.outbound")
        assert (sent["in_reply_to"], sent["transport_name"]) == (deployment.received[id], id)
        event = {"message_type": "event", "event_id": "e", "event_type": "nack", "nack_reason": "no"}
        event["user_message_id"] = deployment.sent[id]
        transport.basic_publish("vumi", f"{id}.event", json.dumps(event).encode())
    wanted = {f"/events/{id}" for id in some}
    await until(lambda: wanted <= {request.path for request in receiver.requests}, "the events")
    connection.close()


class TestFaults:
    @pytest.mark.parametrize(
        "args",
        [(), ("--redis", "http://user:s3cret@h/"), ("--config", "absent.yml"), ("--redis", "redis://")],
    )
    def test_no_redis(self, args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        """Without a Redis, or with a wrong one, it ends with status 1 and a line, without traceback."""
        with pytest.raises(SystemExit) as caught:
            main(["import-junebug", *args])
        assert caught.value.code == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert all(line.startswith("junebug-turn: ") for line in err.splitlines()), err
        assert "s3cret" not in err

    def test_away(self, tmp_path: Path) -> None:
        """With a Redis that is away too: the line has the cause, and the password stays hidden."""
        url = f"redis://:s3cret@127.0.0.1:{free_port()}/0"
        status, out, err = command("--redis", url, folder=tmp_path)
        assert (status, out) == (1, "")
        assert err.startswith("junebug-turn: Redis at 127.0.0.1:")
        assert "refused" in err
        assert len(err.splitlines()) == 1, err
        assert "s3cret" not in err
        assert list(tmp_path.iterdir()) == []

    def test_empty(self, tmp_path: Path) -> None:
        """Where there is no channel nothing is written."""
        status, _, err = command("--redis", redis_server().url.removesuffix("0") + "9", folder=tmp_path)
        assert status == 1
        assert "no channel" in err
        assert list(tmp_path.iterdir()) == []

    def test_output(self, tmp_path: Path) -> None:
        """A file that is there already stays as it is; with - the text is the output."""
        (tmp_path / "there.yaml").write_text("mine")
        deployment, prefix = Deployment.of("http://127.0.0.1:1"), tmp_path.name
        redis = redis_server()
        commands(redis.url, list(deployment.commands("http://127.0.0.1:1", prefix)))
        (tmp_path / "junebug.yml").write_text(junebug_yml(redis.url, "amqp://h/%2F", 8080, prefix))
        status, _, err = command("--config", "junebug.yml", "--output", "there.yaml", folder=tmp_path)
        assert status == 1
        assert err.startswith("junebug-turn: can't write there.yaml: ")
        assert (tmp_path / "there.yaml").read_text() == "mine"
        status, out, err = command("--config", "junebug.yml", "--output", "-", folder=tmp_path)
        assert (status, err) == (0, "")
        assert len(yaml.safe_load(out)["applications"]) == 38
