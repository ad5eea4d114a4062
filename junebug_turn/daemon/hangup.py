"""SIGHUP: take up changed certificates without a restart."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service


class Hangup(Service):
    """Has ``reload`` called, in the reactor, for each SIGHUP while it runs."""

    def __init__(self, reactor: Any, reload: Callable[[], None]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._before: Any = None

    def startService(self) -> None:
        """Take the signal."""
        super().startService()
        self._before = signal.signal(signal.SIGHUP, self._received)

    def stopService(self) -> None:
        """Leave the signal to whoever had it."""
        super().stopService()
        signal.signal(signal.SIGHUP, self._before)

    def _received(self, number: int, frame: object) -> None:
        # A signal comes in the middle of anything.
        self._reactor.callFromThread(self._reload)
