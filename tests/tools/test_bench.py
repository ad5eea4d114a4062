"""The parts of the benchmark that others' figures stand on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench import load, table
from tools.bench.messages import inbound_body
from tools.bench.processes import BenchError, Receiver, get
from tools.bench.stolen import Stolen, Timed, quietest


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as receiver:
        yield receiver


def test_the_receiver_notes_what_comes(receiver: Receiver, tmp_path: Path) -> None:
    """The receiver counts the messages and notes when each came, by its id, once."""
    ids = [f"{number:032x}" for number in range(30)]
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"\n".join(inbound_body(message_id) for message_id in ids))
    before = time.time()
    timed = load.at_rate(f"{receiver.url}/inbound", bodies, rate=20, seconds=1)
    assert len(timed) == 20
    assert get(f"{receiver.url}/count") == 30
    log = get(f"{receiver.url}/log")
    assert set(log) == set(ids)
    assert all(before <= at <= time.time() for at in log.values())
    assert get(f"{receiver.url}/log") == {}


def test_a_late_answer_counts_from_when_it_was_due(tmp_path: Path) -> None:
    """A server that stands still for a while makes the requests late that should have been sent meanwhile."""
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}")

    async def measure() -> list[Timed]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal stood
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                if not stood and time.monotonic() > start + 0.6:
                    stood = True
                    # The whole process stands still, the client too.
                    time.sleep(0.3)  # noqa: ASYNC251
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        stood = False
        start = time.monotonic()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = await load._at_rate(f"http://127.0.0.1:{port}/", [b"{}"], 50, 1.2)
        server.close()
        return found

    latencies = [each.latency for each in asyncio.run(measure())]
    # Of those that were due in the 0.3 s each waited for its part of them.
    assert sum(latency > 0.05 for latency in latencies) >= 10
    assert max(latencies) >= 0.29


def test_a_server_that_refuses_counts_as_failed(tmp_path: Path) -> None:
    """A server that refuses connections before it is asked fails the measurement, which does not wait for it."""
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}")

    async def measure() -> None:
        async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await asyncio.wait_for(load._at_rate(f"http://127.0.0.1:{port}/", [b"{}"], 50, 0.2), 10)

    with pytest.raises(BenchError, match="requests failed"):
        asyncio.run(measure())


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


def test_ratios() -> None:
    """A figure that is over its target is marked in the table, and one at it is not."""
    figures = {name: {"cpu_us": 100.0, "rate": 1.0} for name in table.FLOORS}
    figures |= {name: {"cpu_us": 240.0, "rate": 1.0} for name in table.TARGETS}
    for name in ("junebug outbound at rate", "turn outbound at rate"):
        figures[name] = {"cpu_us": 1.0, "rate": 1.0, "p50": 1.0, "p99": 4.0, "p99_all": 4.0, "stolen": 0.0}
    figures["junebug outbound"]["cpu_us"] = 270.0
    ratios = table.ratios(figures)
    lines = table.text({"machine": {"cpu": "any"}, "figures": figures, "ratios": ratios}).splitlines()
    over = [line for line in lines if line.endswith("over")]
    assert len(over) == 1
    assert over[0].startswith("junebug outbound: cpu / (klein + publish)")
    json.dumps(ratios)


def test_a_latency_of_a_busy_machine_is_marked() -> None:
    """A latency over its target that is not of quiet seconds says so, and no other does."""
    figures = {name: {"cpu_us": 100.0, "rate": 1.0} for name in (*table.FLOORS, *table.TARGETS)}
    row = {"cpu_us": 1.0, "rate": 1.0, "p50": 1.0, "p99": 5.0, "p99_all": 6.0}
    figures["junebug outbound at rate"] = row | {"stolen": 0.2}
    figures["turn outbound at rate"] = row | {"stolen": 0.001}
    ratios = table.ratios(figures)
    lines = table.text({"machine": {}, "figures": figures, "ratios": ratios}).splitlines()
    assert [line.partition("over")[2] for line in lines if "  over" in line] == [
        ", in seconds that were not quiet",
        "",
    ]
    assert any(
        line.startswith("junebug outbound at rate") and line.endswith("20.0        6.00") for line in lines
    )
