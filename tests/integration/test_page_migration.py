"""The commands of docs/migrating.md, run as printed with an old deployment, on other ports."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from junebug_turn.daemon.junebug.command_line import parser
from tests.support.commands import wait_for
from tests.support.demo import BINARIES
from tests.support.pages import ROOT, block
from tools.servers.installed import search_path
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode

PAGE = "docs/migrating.md"
CHANNELS = 40


class Trial:
    """A folder, with the ports and the virtual host of the test in place of the page's."""

    def __init__(self, folder: Path, node: RabbitNode) -> None:
        self.folder, self.node = folder, node
        self.redis, self.http = free_port(), free_port()
        self.vhost = f"trial-{uuid.uuid4().hex[:12]}"
        user = f"{quote(node.username)}:{quote(node.password)}"
        self._places = {
            "6390": str(self.redis),
            "127.0.0.1:6379/0": f"127.0.0.1:{self.redis}/1",
            "127.0.0.1:8080": f"127.0.0.1:{self.http}",
            "--directory old": f"--directory old --port {self.http} --amqp amqp://{user}@{node.host}:{node.port}/",
            "vhost trial": f"vhost {self.vhost}",
            "-p trial guest": f"-p {self.vhost} {node.username}",
            ".venv/bin/": f"{BINARIES}/",
            "/opt/junebug-turn/bin/": f"{BINARIES}/",
        }
        self.environ = {
            "PATH": os.pathsep.join([str(BINARIES), search_path()]),
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
        }

    def at_its_places(self, text: str) -> str:
        for place, found in self._places.items():
            text = text.replace(place, found)
        return text

    def run(self, start: str, folder: str = "", **filled: str) -> str:
        """Run the block of the page that starts so, in a folder of the trial; returns what it prints."""
        script = self.at_its_places(block(PAGE, start))
        for name, value in filled.items():
            script = script.replace(f"<{name}>", value)
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder / folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env=self.environ,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self, start: str, **filled: str) -> list[dict[str, Any]]:
        """The answers to the requests of a block, one after the other."""
        text, found = self.run(start, **filled).strip(), []
        while text:
            answer, end = json.JSONDecoder().raw_decode(text)
            found.append(answer)
            text = text[end:].strip()
        return found


@pytest.fixture
def trial(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[Trial]:
    made = Trial(tmp_path, rabbitmq)
    yield made
    subprocess.run(["redis-cli", "-p", str(made.redis), "shutdown", "nosave"], env=made.environ, check=False)
    rabbitmq.ctl("delete_vhost", made.vhost)


def test_the_steps(trial: Trial) -> None:
    """From the trial's Redis to a message that was answered after the switch, each command does what its check says."""
    trial.run("redis-server")
    for line in trial.at_its_places(block(PAGE, "rabbitmqctl")).splitlines():
        trial.node.ctl(*shlex.split(line)[1:])
    assert trial.run("junebug-turn check-config", "old").endswith("The configuration can be used.\n")

    trial.run("junebug-turn import-junebug", "old")
    written = (trial.folder / "old" / "junebug-turn.yaml").read_text()
    assert len(re.findall(r"^  # Channel", written, re.MULTILINE)) == CHANNELS
    name, worker, *options, lost = block(PAGE, "# Channel").splitlines()
    assert re.sub("[0-9a-f-]{36}", "", name) in re.sub("[0-9a-f-]{36}", "", written)
    assert worker in written
    for option in options:
        assert option.endswith("...") or option.partition(":")[0] in written
    assert lost in written

    command = shlex.split(trial.at_its_places(block(PAGE, ".venv/bin/jb")))
    switched = shlex.split(block(PAGE, "/opt/junebug-turn/bin/jb"))
    assert parser().parse_args(switched[1:])
    with (trial.folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=trial.folder, env=trial.environ, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(f"http://127.0.0.1:{trial.http}/health", process, trial.folder / "output", 200, 60)
        health, channels, routers = trial.answers("curl -s http://127.0.0.1:8080/health")
        assert health["description"] == "health ok"
        assert len(channels["result"]) == CHANNELS
        assert routers["result"]
        tries = json.loads((trial.folder / "old" / "deployment.json").read_text())
        id = next(each for each in channels["result"] if each in tries["received"] and each in tries["sent"])
        (shown,) = trial.answers("curl -s http://127.0.0.1:8080/channels/<id>\n", id=id)
        assert "transport" in shown["result"]["status"]["components"]
        filled = {"id": id, "received": tries["received"][id], "sent": tries["sent"][id]}
        reply, status = trial.answers("curl -s http://127.0.0.1:8080/channels/<id>/messages/ -d", **filled)
        assert (reply["status"], reply["result"]["reply_to"]) == (201, filled["received"])
        assert status["result"]["id"] == filled["sent"]
    finally:
        process.terminate()
        process.wait(60)
