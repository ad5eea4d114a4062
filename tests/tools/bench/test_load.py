"""The load of the benchmark: a client with a fixed rate."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tools.bench import load
from tools.bench.processes import BenchError
from tools.bench.stolen import Timed


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
        found = await load.send_at_rate(f"http://127.0.0.1:{port}/", [b"{}"], 50, 1.2)
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
        await asyncio.wait_for(load.send_at_rate(f"http://127.0.0.1:{port}/", [b"{}"], 50, 0.2), 10)

    with pytest.raises(BenchError, match="requests failed"):
        asyncio.run(measure())
