"""Cheap receiver of the benchmark: it answers 200, and notes when each message came.

It parses as little HTTP as it can, so that the figures are those of the daemon.

``python -m tools.bench.receiver PORT``; also answers ``GET /count`` (how many came), ``GET /log`` (a JSON object of
message id to ``time.time()``, for those since the last such request) and, so that a queue can fill, ``GET /hold`` (the
POSTs from now on wait) until ``GET /release``.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

_ID = re.compile(rb"[0-9a-f]{32}")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


_OK = _answer(b"{}")


class _Received:
    """The messages that came, over all connections."""

    def __init__(self) -> None:
        self.count = 0
        self.log: dict[str, float] = {}
        self.held: list[asyncio.Transport] | None = None


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, received: _Received) -> None:
        self._received = received
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        while (head := data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(data, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(data) < end:
                break
            if data.startswith(b"POST"):
                self._posted(data[head + 4 : end])
            else:
                self.transport.write(_answer(self._asked(data.split(b" ", 2)[1])))
            data = data[end:]
        self._unread = data

    def _posted(self, body: bytes) -> None:
        received = self._received
        received.count += 1
        found = _ID.search(body)
        if found is not None:
            received.log[found[0].decode()] = time.time()
        if received.held is None:
            self.transport.write(_OK)
        else:
            received.held.append(self.transport)

    def _asked(self, path: bytes) -> bytes:
        received = self._received
        if path == b"/hold":
            received.held = []
        elif path == b"/release":
            held, received.held = received.held or [], None
            for transport in held:
                transport.write(_OK)
        elif path == b"/log":
            log, received.log = received.log, {}
            return json.dumps(log).encode()
        return json.dumps(received.count).encode()


async def main(port: int) -> None:
    """Serve until the process is ended."""
    received = _Received()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(received), "127.0.0.1", port, backlog=1000
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
