"""Stolen processor time: that which a virtual machine's host gave to others, and which makes every latency worse."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Self

from attrs import frozen

QUIET = 0.005
"""The part of the processors' time up to which a second counts as quiet."""

_INTERVAL = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Timed:
    """A request: when it was due (``time.perf_counter()``), and its latency from then, both in seconds."""

    due: float
    latency: float


def _taken() -> float:
    """Seconds that others had of all our processors, since the start of the machine."""
    # user nice system idle iowait irq softirq steal
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / _TICKS


class Stolen:
    """Watch, in a thread, over the stolen processor time."""

    def __init__(self) -> None:
        self._readings: list[tuple[float, float]] = []  # the time, and the seconds stolen by then
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL):
            self._read()

    def _read(self) -> None:
        # One list: the thread may be stopped between any two steps.
        self._readings.append((time.perf_counter(), _taken()))

    def part(self, start: float, end: float) -> float:
        """Which part of the processors' time (0 to 1) was taken between two times."""
        readings = self._readings.copy()
        first = max(0, bisect_left(readings, (start,)) - 1)
        final = min(len(readings) - 1, bisect_left(readings, (end,)))
        if first >= final:
            return 0.0
        (since, before), (until, after) = readings[first], readings[final]
        return (after - before) / (until - since) / (os.cpu_count() or 1)


@frozen
class Quietest:
    """The latencies of the seconds in which least was taken.

    :ivar stolen: the part that was taken of them, on the average
    :ivar quiet: whether all of them count as quiet, and there are as many as were wanted
    """

    latencies: list[float]
    stolen: float
    quiet: bool


def quietest(runs: Iterable[Sequence[Timed]], part: Callable[[float, float], float], wanted: int) -> Quietest:
    """Choose all quiet seconds of some runs, or the ``wanted`` quietest where these are fewer."""
    ranked = sorted(
        (part(start, start + 1), latencies) for run in runs for start, latencies in _seconds(run).items()
    )
    quiet = sum(stolen <= QUIET for stolen, _ in ranked)
    chosen = ranked[: max(quiet, wanted)]
    return Quietest(
        [latency for _, latencies in chosen for latency in latencies],
        sum(stolen for stolen, _ in chosen) / len(chosen),
        quiet >= wanted,
    )


def _seconds(run: Sequence[Timed]) -> dict[float, list[float]]:
    """The latencies in each second of a run, by when it began."""
    begun = min(each.due for each in run)
    found: defaultdict[float, list[float]] = defaultdict(list)
    for each in run:
        found[begun + int(each.due - begun)].append(each.latency)
    return found
