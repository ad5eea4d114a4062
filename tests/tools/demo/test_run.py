"""``make run``, whole: what it starts, the lines that it gives to copy, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.configurations import JUNEBUG, TURN, written
from tools.demo.secrets import with_secrets
from tools.servers.process import ROOT, free_port, is_free
from tools.servers.rabbitmq import RabbitNode, is_broker


class Run:
    """``python -m tools.demo.run`` with the file in etc/, but on free ports.

    :param added: what a reader adds at the end of the file
    """

    def __init__(self, var: Path, amqp_port: int, added: str = "", **environ: str) -> None:
        self.http, self.receiver, self.amqp = free_port(), free_port(), amqp_port
        self.phone, self.turn_phone = free_port(), free_port()
        self.rapidpro_phone, self.kannel_phone = free_port(), free_port()
        self.operators = free_port()
        self.process = self._start(var, added, environ)
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _start(self, var: Path, added: str, environ: dict[str, str]) -> subprocess.Popen[str]:
        text = (ROOT / "etc" / "junebug-turn.yaml").read_text("utf-8")
        for port, free in ((8080, self.http), (8081, self.receiver), (8082, self.operators)):
            assert f"127.0.0.1:{port}" in text
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        var.mkdir()
        (var / "config.yaml").write_text(text + added, "utf-8")
        command = [
            sys.executable,
            "-m",
            "tools.demo.run",
            "--config",
            str(var / "config.yaml"),
            "--var",
            str(var),
        ]
        return subprocess.Popen(
            [
                *command,
                *("--phone-port", str(self.phone), "--turn-phone-port", str(self.turn_phone)),
                *("--rapidpro-phone-port", str(self.rapidpro_phone)),
                *("--kannel-phone-port", str(self.kannel_phone)),
            ],
            cwd=ROOT,
            env={**os.environ, "AMQP_PORT": str(self.amqp), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until its output has ``pattern``."""
        deadline = time.monotonic() + 60
        while True:
            ended = not self._reader.is_alive()
            if found := re.search(pattern, self.output, re.MULTILINE):
                return found
            assert not ended, f"it ended without {pattern}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {pattern} in time:\n{self.output}"
            time.sleep(0.05)

    def end(self, number: signal.Signals | None = None) -> int:
        """Send the signal, if one is given, and wait for the end; the status."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(timeout=40)
        self._reader.join(10)
        return status

    def all_free(self) -> bool:
        """Whether nothing of it listens any more."""
        phones = (self.phone, self.turn_phone, self.rapidpro_phone, self.kannel_phone)
        return all(is_free(port) for port in (self.http, self.receiver, self.operators, *phones))


@pytest.fixture
def start(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[Callable[..., Run]]:
    """Starts the demo, on the tests' broker or another port."""
    running: list[Run] = []

    def make(amqp_port: int = rabbitmq.port) -> Run:
        running.append(Run(tmp_path / f"var{len(running)}", amqp_port))
        return running[-1]

    yield make
    for run in running:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)


def _shell(line: str, cwd: Path | None = None) -> str:
    done = subprocess.run(["sh", "-c", line], cwd=cwd, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def _curl(line: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(_shell(line))
    return answer


def test_secrets(tmp_path: Path) -> None:
    """What the configuration leaves out is made once, for all programs of the demo, in a file of its owner's; what the
    file or the environment gives is left as it is."""
    made = tmp_path / "var" / "secrets.env"
    config = str(ROOT / "etc" / "junebug-turn.yaml")
    first, again = (with_secrets(config, {"HOME": "/"}, made) for _ in range(2))
    assert first == again
    assert set(first) == {"HOME", "AUTH_TOKEN", "TURN_HMAC_SECRET"}
    assert min(len(first[name]) for name in ("AUTH_TOKEN", "TURN_HMAC_SECRET")) >= 32
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert [file.name for file in made.parent.iterdir()] == ["secrets.env"]
    given = with_secrets(config, {"TURN_HMAC_SECRET": "mine"}, made)
    assert given == {"TURN_HMAC_SECRET": "mine", "AUTH_TOKEN": first["AUTH_TOKEN"]}
    own = written(tmp_path / "own.yaml", {"applications": [JUNEBUG, TURN]})["config"]
    assert with_secrets(own, {}, made) == {}
    assert set(with_secrets(config, {"VUMI_CONFIG_PREFIX": "x"}, made)) == {
        "VUMI_CONFIG_PREFIX",
        "X_AUTH_TOKEN",
        "X_TURN_HMAC_SECRET",
    }


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines to copy are for curl")
def test_the_lines_to_copy(start: Callable[..., Run]) -> None:
    """With no broker there, one is started; each of the three lines works as it stands; Ctrl-C ends everything."""
    run = start(free_port())
    run.until("starting a private one")
    phone = run.until(r"be the phone.*\n.*nc (\S+) (\d+)$")
    send = run.until(r"send a message.*\n +(curl .*)$")[1]
    reply = run.until(r"reply to.*\n +(curl .*)$")[1]
    with socket.create_connection((phone[1], int(phone[2])), 10) as connection:
        terminal = connection.makefile("rw", newline="\n")
        terminal.readline()
        assert _curl(send)["status"] == 201
        assert "Hello, phone!" in terminal.readline()
        run.until('"event_type": "submitted"')
        run.until('"event_type": "delivery_succeeded"')
        terminal.write("Hi there\n")
        terminal.flush()
        run.until('"content": "Hi there"')
        assert _curl(reply)["status"] == 201
        assert "Hello back!" in terminal.readline()
    assert run.end(signal.SIGINT) == 0, run.output
    assert "Traceback" not in run.output
    assert run.all_free()
    assert is_free(run.amqp)


def test_the_lines_to_copy_for_turn(start: Callable[..., Run], tmp_path: Path) -> None:
    """Each webhook line works in any folder; the whole way goes from it to the phone, and from there to Turn."""
    run = start()
    phone = run.until(r"be the phone of the Turn channel.*\n.*nc (\S+) (\d+)$")
    text = run.until(r"send it a text.*\n +(cd .*)$")[1]
    menu = run.until(r"send it a menu.*\n +(cd .*)$")[1]
    with socket.create_connection((phone[1], int(phone[2])), 10) as connection:
        terminal = connection.makefile("rw", newline="\n")
        terminal.readline()
        assert "-> 200" in _shell(text, tmp_path)
        assert "Hello from Turn!" in terminal.readline()
        run.until(r"POST /turn/statuses \(Bearer authorization\) -> 200, 59 of 60 calls left")
        run.until('"status": "delivered"')
        terminal.write("Hi Turn\n")
        terminal.flush()
        run.until(r"POST /turn/messages \(Bearer authorization\) -> 200")
        run.until('"body": "Hi Turn"')
        assert "-> 200" in _shell(menu, tmp_path)
        assert "".join(terminal.readline() for _ in range(3)).endswith(
            "How are you?\r\n1. Well\r\n2. Not well\r\n"
        )
        terminal.write("2\n")
        terminal.flush()
        run.until('"title": "Not well"')
        if shutil.which("curl") and shutil.which("openssl"):
            page = (ROOT / "docs" / "turn.md").read_text("utf-8")
            by_hand = re.search(r"```sh\n(body=.*?)```", page, re.DOTALL)
            assert by_hand
            line = by_hand[1].replace("127.0.0.1:8080", f"127.0.0.1:{run.http}")
            answer = json.loads(_shell(line.replace(". var/", f". {ROOT}/var/")))
            assert list(answer) == ["messages"]
            assert "Signed by hand" in terminal.readline()
    assert run.end(signal.SIGINT) == 0, run.output
    assert "Traceback" not in run.output
    assert run.all_free()


def test_the_lines_to_copy_for_rapidpro(start: Callable[..., Run], tmp_path: Path) -> None:
    """A session of USSD through RapidPro: its start, a menu, the number that comes back, the end, and the events; and
    an SMS both ways through its Kannel channel."""
    run = start()
    phone = run.until(r"be the phone of the RapidPro channel.*\n.*nc (\S+) (\d+)$")
    menu = run.until(r"answer it as a flow does.*\n +(cd .*)$")[1]
    end = run.until(r"end the session.*\n +(cd .*)$")[1]
    with socket.create_connection((phone[1], int(phone[2])), 10) as connection:
        terminal = connection.makefile("rw", newline="\n")
        terminal.readline()
        terminal.write("Hi RapidPro\n")
        terminal.flush()
        run.until(r"POST /c/ex/\S+/receive -> 200")
        run.until('"text": "Hi RapidPro"')
        assert "200: wired" in _shell(menu, tmp_path)
        assert "".join(terminal.readline() for _ in range(3)).endswith(
            "How are you?\r\n1. Well\r\n2. Not well\r\n"
        )
        run.until(r"POST /c/ex/\S+/sent -> 200")
        run.until(r"POST /c/ex/\S+/delivered -> 200")
        terminal.write("2\n")
        terminal.flush()
        run.until('"text": "Not well"')
        assert "200: wired" in _shell(end, tmp_path)
        run.until(r'Goodbye!" \(session close\)')
    phone = run.until(r"be the phone of the Kannel channel.*\n.*nc (\S+) (\d+)$")
    sms = run.until(r"as RapidPro's Kannel channel does.*\n +(cd .*)$")[1]
    with socket.create_connection((phone[1], int(phone[2])), 10) as connection:
        terminal = connection.makefile("rw", newline="\n")
        terminal.readline()
        assert "202: wired" in _shell(sms, tmp_path)
        assert "Hello through Kannel!" in terminal.readline()
        run.until(r'GET /c/kn/\S+/status -> 200, .*\n\{\n.*\n  "status": "8"')
        run.until(r'GET /c/kn/\S+/status -> 200, .*\n\{\n.*\n  "status": "1"')
        terminal.write("Hi Kannel\n")
        terminal.flush()
        run.until(r"POST /c/kn/\S+/receive -> 200")
        run.until('"message": "Hi Kannel"')
    assert run.end(signal.SIGINT) == 0, run.output
    assert "Traceback" not in run.output
    assert run.all_free()


def test_it_stops_only_what_it_started(start: Callable[..., Run], rabbitmq: RabbitNode) -> None:
    """A broker that was running already is used, and runs on after SIGTERM; all else is gone."""
    run = start()
    run.until("using the broker at")
    run.until("Ctrl-C stops everything")
    assert run.end(signal.SIGTERM) == 0, run.output
    assert run.all_free()
    assert is_broker(rabbitmq.host, rabbitmq.port)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_a_part_that_dies(start: Callable[..., Run]) -> None:
    """When one part ends by itself, that is said, the others are stopped, and the status isn't 0."""
    run = start()
    run.until("Ctrl-C stops everything")
    os.kill(_listener(run.receiver), signal.SIGKILL)
    run.until("the receiver ended with status")
    assert run.end() == 1
    assert run.all_free()


def test_a_port_that_is_taken(start: Callable[..., Run]) -> None:
    """A taken port is told before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = start(taken.getsockname()[1])
        run.until(r"is taken by another program")
        assert run.end() == 1


def _listener(port: int) -> int:
    """The process that listens on ``port``."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
            inode = f"socket:[{fields[9]}]"
            for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
                try:
                    if os.readlink(descriptor) == inode:
                        return int(descriptor.parts[2])
                except OSError:
                    pass
    raise AssertionError(f"nobody listens on {port}")
