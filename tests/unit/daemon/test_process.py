"""Signals of this process, and open files and the collector of cyclic garbage of another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock

from junebug_turn.daemon.process import call_on_signals

PROGRAM = """
import gc, weakref
from junebug_turn.daemon.process import YOUNG, tune_garbage_collector
tune_garbage_collector()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold()[0] == YOUNG

class Node: pass

node = Node()
node.itself = node
gone = weakref.ref(node)
del node
kept = [[] for _ in range(2 * YOUNG)]
assert gone() is None
"""


LIMIT = """
import resource
from junebug_turn.daemon.process import raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(hard, 4000) if hard > 0 else 4000))
raised = raise_descriptor_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == raised > 256
"""


def test_raise_descriptor_limit() -> None:
    """The soft limit of open files becomes the hard one."""
    subprocess.run([sys.executable, "-c", LIMIT], check=True, cwd=Path(__file__).parents[3])


def test_call_on_signals() -> None:
    """Each signal has its own call, made by the reactor and not in the middle of whatever runs."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)}
    queued: list[object] = []
    reactor = MemoryReactorClock()
    reactor.callFromThread = queued.append
    reload, reopen = object(), object()
    try:
        call_on_signals(reactor, SIGHUP=reload, SIGUSR1=reopen)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert queued == [reopen, reload]


START = """
import gc
from junebug_turn.daemon.process import YOUNG
from junebug_turn.daemon.tap import Options, makeService
options = Options()
options.parseOptions(["--config", "/no/such/file"])
try:
    makeService(options)
except SystemExit:
    pass
assert gc.get_threshold()[0] == YOUNG
"""


def test_the_start() -> None:
    """The collector leaves the build of many connectors alone, whose objects stay."""
    subprocess.run([sys.executable, "-c", START], check=True, cwd=Path(__file__).parents[3])


def test_tune_garbage_collector() -> None:
    """What is there is left alone from then on, and new cycles are still collected by themselves."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, cwd=Path(__file__).parents[3])
