"""The choice of quiet seconds, by the processor time that others had."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tools.bench.stolen import Stolen, Timed, quietest


def run(start: float, latencies: list[float]) -> list[Timed]:
    """Ten requests in each second from ``start`` on, all of a second with the same latency."""
    return [
        Timed(start + second + tenth / 10, latency)
        for second, latency in enumerate(latencies)
        for tenth in range(10)
    ]


def test_quiet_seconds_only() -> None:
    """Latencies are those of the seconds in which nothing was taken from the machine, of all runs."""
    taken = {100.25: 0.2, 101.25: 0.0, 200.5: 0.004, 201.5: 0.006}
    runs = [run(100.25, [9, 1]), run(200.5, [2, 8])]
    found = quietest(runs, lambda start, end: taken[start] * (end - start), wanted=2)
    assert sorted(set(found.latencies)) == [1, 2]
    assert (len(found.latencies), found.quiet) == (20, True)
    assert found.stolen == pytest.approx(0.002)


def test_the_quietest_where_none_is_quiet() -> None:
    """On a machine that is never quiet they are those of the quietest seconds, and it is said that none was quiet."""
    taken = {0: 0.3, 1: 0.1, 2: 0.4, 3: 0.2}
    found = quietest([run(0, [3, 1, 4, 2])], lambda start, _: taken[start], wanted=2)
    assert sorted(set(found.latencies)) == [1, 2]
    assert (len(found.latencies), found.quiet, found.stolen) == (20, False, pytest.approx(0.15))


def test_the_stolen_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel counts as taken, as a part of all processors' time between two times."""
    taken = 7.0

    def read() -> float:
        nonlocal taken
        taken += 0.05
        return taken

    monkeypatch.setattr("tools.bench.stolen._taken", read)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with Stolen() as stolen:
        start = time.perf_counter()
        time.sleep(0.65)  # what is measured is time itself
        end = time.perf_counter()
        time.sleep(0.15)
    # 0.05 s of each 0.1 s that two processors had.
    assert stolen.part(start, end) == pytest.approx(0.25, abs=0.08)
