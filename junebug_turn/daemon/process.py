"""Signals and settings of the process: SIGHUP, SIGUSR1, open files and Python's collector of cyclic garbage."""

from __future__ import annotations

import gc
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from junebug_turn.daemon.settings import Settings

YOUNG = 10_000
"""New objects, less those that are gone, after which the collector looks at them."""

MAX_DESCRIPTORS = 2**20

RESERVE = 200
"""Descriptors that no HTTP connection gets: for the broker, stores, files, look-ups, idle connections to clients' hosts
and connections that are being refused."""


def call_on_signals(reactor: Any, **calls: Callable[[], object]) -> None:
    """Make each call, in the reactor, at each signal of its name, as ``SIGHUP=daemon.reload``.

    Until the process ends: the default of these signals would kill it while it stops in order.
    """
    for name, call in calls.items():
        # A signal comes in the middle of anything.
        signal.signal(getattr(signal, name), lambda *_, call=call: reactor.callFromThread(call))


def collect_garbage_rarely() -> None:
    """Have the collector look at new objects less often; by default it takes a quarter of the time of the build."""
    gc.set_threshold(YOUNG, 10, 10)


def tune_garbage_collector() -> None:
    """Exempt the present objects from garbage collection, and look at new objects less often.

    To be called once in a process, when all is loaded: otherwise each full collection goes through every
    class and function, for tens of milliseconds in which no message moves.
    """
    gc.collect()
    gc.freeze()
    collect_garbage_rarely()


def connections_within(settings: Settings, descriptors: int) -> int:
    """Return how many HTTP connections there can be where the process may have so many descriptors."""
    # Each delivery that can be under way has two, its own connection and an idle one.
    deliveries = 2 * settings.daemon.worker_concurrency * len(settings.applications)
    left = max(descriptors - RESERVE - 2 * deliveries, descriptors // 4, 1)
    if settings.channels is not None:
        # How many channels there will be isn't known.
        left = max(min(left, descriptors // 2), 1)
    return min(settings.daemon.limits.max_connections, left)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; returns it.

    The soft limit is 1,024 on most systems, for the sake of programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    most = MAX_DESCRIPTORS if hard == unlimited else min(hard, MAX_DESCRIPTORS)
    if soft != unlimited and soft < most:
        with suppress(OSError, ValueError):  # not allowed here: then it stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return MAX_DESCRIPTORS if soft == unlimited else soft
