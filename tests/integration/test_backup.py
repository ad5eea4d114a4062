"""The backup of a SQLite cache, by the commands of docs/backup-and-logs.md."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest_twisted
import yaml
from twisted.internet.threads import deferToThread

from junebug_turn.messages.vumi import Event
from tests.integration.conftest import RunDaemon
from tools.servers.installed import search_path
from tools.servers.receiver import Receiver

PAGE = Path(__file__).parents[2] / "docs" / "backup-and-logs.md"
FILE, COPY = "/var/lib/junebug-turn/cache.db", "/var/backups/junebug-turn-cache.db"
NUMBER = "+27820000001"


def commands(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def run(lines: str, file: Path, copy: Path) -> str:
    """Run the commands of the page with other paths, and without systemd's; returns their output."""
    output = ""
    for line in lines.splitlines():
        program, *arguments = shlex.split(line.replace(FILE, str(file)).replace(COPY, str(copy)))
        if program != "systemctl":
            path = shutil.which(program, path=search_path())
            assert path is not None, f"{program} is not installed"
            output += subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
    return output


@pytest_twisted.ensureDeferred
async def test_backup_and_restore(run_daemon: RunDaemon, receiver: Receiver, tmp_path: Path) -> None:
    """A copy that was made while the daemon runs and stores has all that was stored before; restored, the daemon finds
    in it where events go."""
    file, copy = tmp_path / "cache.db", tmp_path / "copy.db"
    backup, restore = commands("sh")
    options: dict[str, Any] = {
        "mo_message_url": receiver.url("/inbound"),
        "state_cache_class": "sqlite",
        "state_cache_config": {"path": str(file)},
    }
    body = {"to": NUMBER, "from": "8110", "content": "x", "event_url": receiver.url("/events")}
    async with run_daemon("junebug", **options) as side:
        before = (await side.post(body)).body["result"]["message_id"]
        copying = deferToThread(run, backup, file, copy)
        while not copying.called:
            after = await side.post(body)
            assert after.status == 201
        assert (await copying).strip() == "ok"
        copy.chmod(0o600)
    file.write_bytes(b"lost")
    run(restore, file, copy)
    async with run_daemon("junebug", **options) as side:
        side.publish("event", Event(user_message_id=before, event_type="ack", sent_message_id="s"))
        (request,) = await receiver.received(1)
        assert (request.path, request.json["message_id"]) == ("/events", before)


def test_the_snippet() -> None:
    """The snippet for shipping the log is YAML in which each part has its input, and our fields that it names are
    those of the log."""
    (snippet,) = (yaml.safe_load(text) for text in commands("yaml"))
    assert snippet["transforms"]["lines"]["inputs"] == list(snippet["sources"])
    assert snippet["sinks"]["loki"]["inputs"] == list(snippet["transforms"])
    line = re.findall(r"^\{\"time\".*$", (PAGE.parent / "operations.md").read_text(), re.MULTILINE)[0]
    labels = snippet["sinks"]["loki"]["labels"].values()
    used = {field for label in labels for field in re.findall(r"\{\{ (\w+) \}\}", label)}
    assert used <= set(json.loads(line))
