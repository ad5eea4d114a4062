"""The parts of the benchmark that others' figures stand on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import load, table
from bench.messages import inbound_body
from bench.processes import Receiver, get


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as receiver:
        yield receiver


def test_the_receiver_notes_what_comes(receiver: Receiver, tmp_path: Path) -> None:
    """The receiver counts the messages and notes when each came, by its id, once."""
    ids = [f"{number:032x}" for number in range(20)]
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"\n".join(inbound_body(message_id) for message_id in ids))
    before = time.time()
    latencies = load.at_rate(f"{receiver.url}/inbound", bodies, rate=20, seconds=1)
    assert len(latencies) == 10
    assert get(f"{receiver.url}/count") == 20
    log = get(f"{receiver.url}/log")
    assert set(log) == set(ids)
    assert all(before <= at <= time.time() for at in log.values())
    assert get(f"{receiver.url}/log") == {}


def test_a_late_answer_counts_from_when_it_was_due(tmp_path: Path) -> None:
    """A server that stands still for a while makes the requests late that should have been sent meanwhile."""
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}")

    async def measure() -> list[float]:
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

    latencies = asyncio.run(measure())
    # Of those that were due in the 0.3 s each waited for its part of them.
    assert sum(latency > 0.05 for latency in latencies) >= 10
    assert max(latencies) >= 0.29


def test_ratios() -> None:
    """A figure that is over its target is marked in the table, and one at it is not."""
    figures = {name: {"cpu_us": 100.0, "rate": 1.0} for name in table.FLOORS}
    figures |= {name: {"cpu_us": 240.0, "rate": 1.0} for name in table.TARGETS}
    for name in ("junebug outbound at rate", "turn outbound at rate"):
        figures[name] = {"cpu_us": 1.0, "rate": 1.0, "p50": 1.0, "p99": 4.0}
    figures["junebug outbound"]["cpu_us"] = 270.0
    ratios = table.ratios(figures)
    lines = table.text({"machine": {"cpu": "any"}, "figures": figures, "ratios": ratios}).splitlines()
    over = [line for line in lines if line.endswith("over")]
    assert len(over) == 1
    assert over[0].startswith("junebug outbound: cpu / (klein + publish)")
    json.dumps(ratios)
