"""The daemon's destination: an HTTP server in threads that answers, or fails to, as it is told."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from tools.servers.rabbitmq import HOST

Mode = Literal["ok", "500", "reset", "hang", "trickle", "hold"]

SLOWNESS = 0.03  # seconds that each answer takes, so that something is always under way


class Receiver:
    """The server.

    A ``mode`` holds for all requests: ``ok`` answers 200, after a moment; ``500`` that; ``reset`` resets the
    connection; ``hang`` doesn't answer, and ``trickle`` sends a byte of its body now and then, both until
    the mode changes, when they end the connection; ``hold`` waits until the mode changes and then answers 200.

    :param arrived: called with the path and the ``webhook-id`` of each request that is answered 200
    """

    def __init__(self, arrived: Callable[[str, str], None]) -> None:
        self.mode: Mode = "ok"
        self._arrived = arrived
        self._server = _Server((HOST, 0), _Handler)
        self._server.receiver = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.mode = "reset"
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answered(self, path: str, webhook_id: str) -> None:
        """A request is about to be answered 200."""
        self._arrived(path, webhook_id)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, killed or tired of waiting, is what this is about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        mode = self.server.receiver.mode
        if mode == "ok":
            time.sleep(SLOWNESS)
            self._answer_ok()
        elif mode == "500":
            self._answer(500)
        elif mode == "hold":
            if self._while_it_is(mode):
                self._answer_ok()
        else:
            self.close_connection = True
            if mode == "trickle":
                self._head(200, 1_000_000)
                self._while_it_is(mode, lambda: self.wfile.write(b" "))
            elif mode == "hang":
                self._while_it_is(mode)
            # Closed with this, a socket sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _while_it_is(self, mode: Mode, act: Callable[[], object] = lambda: None) -> bool:
        """Stay here as long as the mode is this; False: the client has gone meanwhile."""
        while self.server.receiver.mode == mode:
            act()
            # A client sends nothing before it has its answer: what can be read is the end.
            if select.select([self.connection], [], [], 0.02)[0]:
                self.close_connection = True
                return False
        return True

    def _answer_ok(self) -> None:
        self.server.receiver.answered(self.path, self.headers["webhook-id"])
        self._answer(200)

    def _answer(self, status: int) -> None:
        self._head(status, 2)
        self.wfile.write(b"{}")

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Thousands of lines that nobody would read."""
