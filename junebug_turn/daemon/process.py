"""Signals and settings of the process: SIGHUP, SIGUSR1 and Python's collector of cyclic garbage."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from typing import Any

YOUNG = 10_000
"""New objects, less those that are gone, after which the collector looks at them."""


def call_on_signals(reactor: Any, **calls: Callable[[], object]) -> None:
    """Make each call, in the reactor, at each signal of its name, as ``SIGHUP=daemon.reload``.

    Until the process ends: the default of these signals would kill it while it stops in order.
    """
    for name, call in calls.items():
        # A signal comes in the middle of anything.
        signal.signal(getattr(signal, name), lambda *_, call=call: reactor.callFromThread(call))


def tune_garbage_collector() -> None:
    """Exempt the present objects from garbage collection, and look at new objects less often.

    To be called once in a process, when all is loaded: otherwise each full collection goes through every
    class and function, for tens of milliseconds in which no message moves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
