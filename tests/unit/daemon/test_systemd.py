"""What systemd is told, over a real datagram socket; and the units in etc/."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.daemon.drain import Drain
from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.daemon.systemd import Notifier, Supervision, status_text

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "etc" / "junebug-turn.service"


class Manager:
    """Stands in for systemd: the socket, and what came."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address}

    def told(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode("utf-8"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: Any, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@junebug-turn-{os.getpid()}")
    yield made
    made.socket.close()


class State:
    """A daemon's state, that a test changes."""

    def __init__(self) -> None:
        self.ready = True
        self.drain = Drain(10, Clock())
        self.consumers = {"a.inbound": True, "a.event": True}
        self.connected = True

    def health(self) -> dict[str, dict[str, Any]]:
        well = self.connected and all(self.consumers.values())
        amqp = {"connected": self.connected, "blocked": False, "consumers": self.consumers}
        return {"amqp": {"ok": well, **amqp}}


Make = Callable[..., tuple[Clock, State]]


@pytest.fixture
def supervised(manager: Manager) -> Iterator[Make]:
    services: list[Supervision] = []

    def make(ready: bool = True, **environ: str) -> tuple[Clock, State]:
        clock, state = Clock(), State()
        state.ready = ready
        service = Supervision(clock, manager.environ | environ, state)
        services.append(service)
        service.startService()
        return clock, state

    yield make
    manager.told()
    for service in services:
        service.stopService()
        assert manager.told() == ["STOPPING=1\nSTATUS=stopping"]


def test_ready(manager: Manager, supervised: Make) -> None:
    """READY is told once, when the daemon listens and is started, whether or not the broker is there."""
    clock, state = supervised(ready=False)
    clock.advance(1)
    assert manager.told() == []
    state.ready, state.connected = True, False
    clock.pump([1, 1, 1])
    assert manager.told() == ["READY=1\nSTATUS=down: amqp (not connected)"]


def test_status(manager: Manager, supervised: Make) -> None:
    """The status is told when it changes."""
    clock, state = supervised()
    state.consumers["a.event"] = False
    clock.pump([1, 1])
    state.consumers["a.event"] = True
    clock.pump([1, 1])
    assert manager.told() == [
        "READY=1\nSTATUS=ok",
        "STATUS=down: amqp (no consumer on a.event)",
        "STATUS=ok",
    ]


def test_watchdog(manager: Manager, supervised: Make) -> None:
    """The watchdog is fed at least twice in its time, and only while every consumer is live."""
    clock, state = supervised(WATCHDOG_USEC="2000000", WATCHDOG_PID=str(os.getpid()))
    manager.told()
    clock.pump([0.5] * 4)
    assert manager.told() == ["WATCHDOG=1"] * 4
    state.consumers["a.inbound"] = False
    clock.pump([0.5] * 4)
    assert not any("WATCHDOG" in told for told in manager.told())
    state.consumers["a.inbound"] = True
    clock.advance(0.5)
    assert manager.told() == ["STATUS=ok\nWATCHDOG=1"]


def test_watchdog_during_the_drain(manager: Manager) -> None:
    """The watchdog is fed until the drain is over, and no other state follows the one that the daemon stops."""
    clock, state = Clock(), State()
    service = Supervision(clock, manager.environ | {"WATCHDOG_USEC": "2000000"}, state)  # type: ignore[arg-type]
    service.startService()
    manager.told()
    service.stopService()
    Deferred.fromCoroutine(state.drain.wait())
    state.connected = False
    clock.pump([0.5] * 2)
    assert manager.told() == ["STOPPING=1\nSTATUS=stopping", "WATCHDOG=1", "WATCHDOG=1"]
    state.drain.end()
    clock.pump([0.5] * 2)
    assert manager.told() == []
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}]
)
def test_no_watchdog(manager: Manager, supervised: Make, environ: dict[str, str]) -> None:
    """Without a watchdog, or with that of another process, it isn't fed."""
    clock, _ = supervised(**environ)
    clock.pump([1, 1])
    assert manager.told() == ["READY=1\nSTATUS=ok"]


def test_nobody_there(tmp_path: Path) -> None:
    """Without a service manager, or when it has gone, nothing is told and nothing fails."""
    Notifier({}).send(READY="1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send(READY="1")


def test_one_line_each(manager: Manager) -> None:
    """A line break in a status can't make a state of its own."""
    Notifier(manager.environ).send(STATUS="a\nREADY=1")
    assert manager.told() == ["STATUS=a READY=1"]


def test_status_of_other_components() -> None:
    """Every component that is not well is named."""
    health = {"amqp": {"ok": True, "consumers": {}}, "cache": {"ok": False, "reachable": False}}
    assert status_text(health) == "down: cache (not reachable)"


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path, "utf-8")
    return parser


class TestUnits:
    def test_times(self) -> None:
        """The unit waits longer for the end than the daemon does for what is under way."""
        service = unit(UNIT)["Service"]
        assert service["Type"] == "notify"
        assert int(service["TimeoutStopSec"]) > DaemonOptions().shutdown_timeout
        assert int(service["WatchdogSec"]) > 240  # no request that waits for the broker is cut by it

    def test_template(self) -> None:
        """A process of the template unit is locked up, watched and ended like the one of the single unit; only its
        folder for sockets is its own."""

        def settings(path: Path) -> set[str]:
            service = path.read_text("utf-8").partition("[Service]\n")[2].partition("[Install]")[0]
            return {line for line in service.splitlines() if line and not line.startswith("#")}

        template = ROOT / "etc" / "junebug-turn@.service"
        assert settings(UNIT) - settings(template) == {"RuntimeDirectory=junebug-turn"}
        assert settings(template) - settings(UNIT) == {"RuntimeDirectory=junebug-turn-%i"}
        assert "StateDirectory=junebug-turn" in settings(template)

    def test_secrets(self) -> None:
        """The broker's password is a credential, which only root can read; the daemon gets its path."""
        text = UNIT.read_text("utf-8")
        assert "\nLoadCredential=amqp_password:/etc/junebug-turn/amqp_password\n" in text
        assert "\nEnvironment=AMQP_PASSWORD_FILE=%d/amqp_password\n" in text

    def test_socket(self) -> None:
        """The socket unit belongs to the service, whose restart it outlives."""
        found = unit(ROOT / "etc" / "junebug-turn.socket")
        assert found["Socket"]["Service"] == UNIT.name
        assert found["Install"]["WantedBy"] == "sockets.target"

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
    @pytest.mark.parametrize(
        "name", ["junebug-turn.service", "junebug-turn.socket", "junebug-turn@1.service"]
    )
    def test_verify(self, name: str, tmp_path: Path) -> None:
        """systemd finds no fault in the units."""
        for file in ("junebug-turn.service", "junebug-turn.socket", "junebug-turn@.service"):
            text = (ROOT / "etc" / file).read_text().replace("/opt/junebug-turn/bin/twistd", "/bin/true")
            (tmp_path / file).write_text(text)
        ended = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        faults = [line for line in ended.stderr.splitlines() if "junebug-turn" in line]
        assert (ended.returncode, faults) == (0, [])

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
    def test_security(self) -> None:
        """The exposure that systemd-analyze finds is what docs/operations.md says, and "OK"."""
        ended = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        found = re.search(r"exposure level for junebug-turn\.service: ([0-9.]+) (\w+)", ended.stdout)
        assert found, ended.stdout + ended.stderr
        assert found[2] == "OK"
        assert f"`{found[1]} OK`" in (ROOT / "docs" / "operations.md").read_text("utf-8")
