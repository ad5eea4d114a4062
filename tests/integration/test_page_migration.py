"""The commands of docs/migrating.md, run as printed with an old deployment, on other ports."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.commands import wait_for
from tests.support.configurations import JUNEBUG, written
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
            "-p 6379": f"-p {self.redis}",
            "guest:guest@127.0.0.1:5672/trial": f"{user}@{node.host}:{node.port}/{self.vhost}",
            "127.0.0.1:8080": f"127.0.0.1:{self.http}",
            "--directory old": f"--directory old --port {self.http}",
            "tools.demo.phone": f"tools.demo.phone --port {free_port()}",
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

    def start(self, command: str, folder: str = "", **filled: str) -> subprocess.Popen[bytes]:
        """Start a command of the page in a folder of the trial; its output is there in ``output``."""
        for name, value in filled.items():
            command = command.replace(f"<{name}>", value)
        place = self.folder / folder
        with (place / "output").open("wb") as output:
            return subprocess.Popen(
                shlex.split(self.at_its_places(command)),
                cwd=place,
                env=self.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def answers(self, start: str, **filled: str) -> list[Any]:
        """The answers to the requests of a block, one after the other, with the status where the block shows it."""
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
    for line in trial.at_its_places(block(PAGE, "rabbitmqctl")).splitlines():
        trial.node.ctl(*shlex.split(line)[1:])
    trial.run("redis-server")
    assert trial.run("junebug-turn check-config", "old").endswith("The configuration can be used.\n")

    assert " 38 channels" in trial.run("junebug-turn import-junebug", "old")
    written = (trial.folder / "old" / "junebug-turn.yaml").read_text()
    assert len(re.findall(r"^  # Channel", written, re.MULTILINE)) == CHANNELS
    name, worker, *options, lost = block(PAGE, "# Channel").splitlines()
    assert re.sub("[0-9a-f-]{36}", "", name) in re.sub("[0-9a-f-]{36}", "", written)
    assert worker in written
    for option in options:
        assert option.endswith("...") or option.partition(":")[0] in written
    assert lost in written

    trial.run("umask", "old")
    assert (trial.folder / "old" / "junebug.rdb").stat().st_mode & 0o777 == 0o600

    processes = [trial.start(block(PAGE, "/opt/junebug-turn/bin/jb"), "old")]
    try:
        wait_for(
            f"http://127.0.0.1:{trial.http}/health", processes[0], trial.folder / "old" / "output", 200, 60
        )
        channels, *codes, health, code = trial.answers("curl -s -w")
        assert len(channels["result"]) == CHANNELS
        assert codes[0] == codes[2] == code == 200
        assert codes[1]["result"]
        assert health["description"] == "health ok"
        tries = json.loads((trial.folder / "old" / "deployment.json").read_text())
        id = next(each for each in channels["result"] if each in tries["received"] and each in tries["sent"])
        phone = block(PAGE, ".venv/bin/python -m tools.demo").splitlines()[1]
        processes.append(trial.start(phone, id=id))
        _until(lambda: _transport(trial, id) == "ok", "the transport")
        filled = {"id": id, "received": tries["received"][id], "sent": tries["sent"][id]}
        reply, status = trial.answers("curl -s http://127.0.0.1:8080/channels/<id>/messages/ -d", **filled)
        assert (reply["status"], reply["description"]) == (201, "message submitted")
        assert reply["result"]["reply_to"] == filled["received"]
        assert (status["status"], status["result"]["id"]) == (200, filled["sent"])
        assert [event["event_type"] for event in status["result"]["events"]] == ["submitted"]
        _until(lambda: "still here" in (trial.folder / "output").read_text(), "the reply at the phone")
    finally:
        for process in processes:
            process.terminate()
            process.wait(60)


def _until(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, f"no sign of {what}"
        time.sleep(0.1)


def _transport(trial: Trial, id: str) -> str:
    (shown,) = trial.answers("curl -s http://127.0.0.1:8080/channels/<id>\n", id=id)
    return str(shown["result"]["status"]["components"]["transport"]["status"])


def test_from_vumi2(tmp_path: Path) -> None:
    """A file of vumi2, which does not name the worker, is checked with the command of the page."""
    options = {key: value for key, value in JUNEBUG.items() if key != "application"}
    written(tmp_path / "config.yaml", options)
    done = subprocess.run(
        ["sh", "-ec", block(PAGE, "VUMI_CONFIG_FILE")],
        cwd=tmp_path,
        env={"PATH": os.pathsep.join([str(BINARIES), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "The configuration can be used."), done
