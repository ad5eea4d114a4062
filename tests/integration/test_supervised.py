"""The real daemon below a stand-in for systemd: its socket, its notifications, its signals and its log."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.servers.rabbitmq import RabbitNode

ROOT = Path(__file__).parent.parent.parent
# systemd sets LISTEN_PID in the process that becomes the daemon.
_PROGRAM = """
import os, sys
os.dup2(int(sys.argv.pop(1)), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="http", WATCHDOG_PID=str(os.getpid()))
from twisted.scripts.twistd import run
sys.exit(run())
"""


def until(condition: Callable[[], Any], what: str, limit: float = 60) -> Any:
    end = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


class Supervised:
    """The daemon's process, with the socket that it was given and what it told."""

    def __init__(self, folder: Path, node: RabbitNode, connector: str) -> None:
        self.log = folder / "daemon.log"
        self.told: list[str] = []
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(folder / "notify"))
        self._manager.setblocking(False)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        password = folder / "password"
        password.write_text(node.password + "\n")
        environ = {
            "PYTHONPATH": str(ROOT),
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "400000",
            "APPLICATION": "junebug",
            "CONNECTOR_NAME": connector,
            "HTTP_BIND": "systemd:domain=INET:index=0",
            "MO_MESSAGE_URL": "http://127.0.0.1:9/",
            "AMQP_HOSTNAME": node.host,
            "AMQP_PORT": str(node.port),
            "AMQP_USERNAME": node.username,
            "AMQP_PASSWORD_FILE": str(password),
            "LOG_FORMAT": "json",
        }
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _PROGRAM, str(self._listener.fileno()), "--nodaemon", "--pidfile="),
                *(f"--logfile={self.log}", "junebug-turn"),
            ],
            cwd=folder,
            env=environ,
            pass_fds=[self._listener.fileno()],
        )

    def tells(self, text: str) -> bool:
        """Whether ``text`` was told by now."""
        while True:
            try:
                self.told.append(self._manager.recv(4096).decode("utf-8"))
            except BlockingIOError:
                return any(text in told for told in self.told)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._manager.close()
        self._listener.close()


@pytest.fixture
def supervised(tmp_path: Path, rabbitmq: RabbitNode, connector_name: str) -> Iterator[Supervised]:
    made = Supervised(tmp_path, rabbitmq, connector_name)
    yield made
    made.close()


def test_life(supervised: Supervised) -> None:
    """It listens on systemd's socket, says READY, its health and WATCHDOG, writes a new log after SIGUSR1, and
    says STOPPING at SIGTERM."""
    until(lambda: supervised.tells("READY=1"), "READY")
    until(lambda: supervised.tells("STATUS=ok"), "its health")
    until(lambda: supervised.tells("WATCHDOG=1"), "the watchdog's food")
    with urllib.request.urlopen(f"http://127.0.0.1:{supervised.port}/health", timeout=5) as answer:
        assert answer.status == 200

    moved = supervised.log.with_name("daemon.log.1")
    supervised.log.rename(moved)
    supervised.process.send_signal(signal.SIGUSR1)
    until(supervised.log.exists, "a new log")

    supervised.process.send_signal(signal.SIGTERM)
    # twistd ends as the signal would have ended it.
    assert supervised.process.wait(15) == -signal.SIGTERM
    assert supervised.tells("STOPPING=1")
    old, new = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (moved, supervised.log)
    )
    assert any(line["text"].startswith("listening on") for line in old)
    assert new[-1]["text"] == "stopped"
    # Nothing of Twisted's own, and nothing of anybody else.
    assert {line["namespace"].partition(".")[0] for line in old + new} == {"junebug_turn"}
