"""Notifications to systemd: the daemon is ready, its health, it is alive, it stops.

The protocol is that of sd_notify(3): datagrams of ``NAME=value`` lines to the socket in ``NOTIFY_SOCKET``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from junebug_turn.daemon.service import Daemon

INTERVAL = 1.0
"""Seconds between looks at the daemon's state, at most."""

Health = Mapping[str, Mapping[str, Any]]


class Notifier:
    """Sender of states to the service manager; does nothing where there is none."""

    log = Logger()

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket, of Linux, is written with @ and has a null byte there.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def wanted(self) -> bool:
        """Whether there is a service manager that listens."""
        return bool(self._address)

    def send(self, **states: str) -> None:
        """Send ``NAME=value`` lines in one datagram; where it can't be sent now, leave it out."""
        if not self._address:
            return
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in states.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode("utf-8"), self._address)
        except OSError as error:
            self.log.warn(
                "The service manager can't be notified of {states}: {reason}",
                states=",".join(states),
                reason=error.strerror or str(error),
            )


class Supervision(Service):
    """Supervision of the daemon by the service manager, which is notified of each change of its state.

    The watchdog is fed as long as every queue has its consumer: without one the daemon looks alive and carries
    nothing, and after ``WATCHDOG_USEC`` microseconds without food systemd starts it again.  It is fed until the drain
    is over.
    """

    def __init__(self, clock: IReactorTime, environ: Mapping[str, str], daemon: Daemon) -> None:
        self._notifier = Notifier(environ)
        self._daemon = daemon
        self._watchdog = _watchdog(environ)
        self._status = ""
        self._look = LoopingCall(self.look)
        self._look.clock = clock

    def startService(self) -> None:
        """Look at the daemon now and then, where there is a service manager."""
        super().startService()
        if self._notifier.wanted:
            self._look.start(INTERVAL if self._watchdog is None else min(INTERVAL, self._watchdog / 4))

    def stopService(self) -> None:
        """Notify that the daemon stops."""
        super().stopService()
        self._notifier.send(STOPPING="1", STATUS="stopping")

    def look(self) -> None:
        """Send the states that are new since the last look."""
        if not self.running and not self._daemon.drain.under_way:
            self._look.stop()
            return
        if not self._daemon.ready:
            return
        health = self._daemon.health()
        states: dict[str, str] = {}
        status = status_text(health)
        if self.running and status != self._status:
            if not self._status:
                states["READY"] = "1"
            states["STATUS"] = self._status = status
        if self._watchdog is not None and all(health["amqp"]["consumers"].values()):
            states["WATCHDOG"] = "1"
        if states:
            self._notifier.send(**states)


def status_text(health: Health) -> str:
    """Return ``ok``, or the components that are down and why; for ``systemctl status``."""
    down = [f"{name} ({_faults(state)})" for name, state in health.items() if not state["ok"]]
    return f"down: {', '.join(down)}" if down else "ok"


def _faults(state: Mapping[str, Any]) -> str:
    faults = [
        f"not {name}" for name, value in state.items() if value is False and name not in ("ok", "blocked")
    ]
    if state.get("blocked"):
        faults.append("blocked")
    consumers = state.get("consumers")
    if isinstance(consumers, Mapping):
        faults += [f"no consumer on {queue}" for queue, live in consumers.items() if not live]
    return ", ".join(faults) or "not ok"


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Return the seconds within which the watchdog wants food; None without one, or where it is another process's."""
    try:
        seconds = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None
    except ValueError:
        return None
    return seconds if seconds > 0 else None
