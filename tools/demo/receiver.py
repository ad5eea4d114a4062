"""An HTTP receiver that stands in for RapidPro and for Turn: it prints what is POSTed to it and answers 200.

``GET /last`` gives the last inbound message that came, ``GET /last/message_id`` one field of it as plain text.
With ``--turn-token`` it is Turn's API below ``/turn``: ``/turn/messages`` and ``/turn/statuses`` want that Bearer
token, and answer 401 to any other.
"""

from __future__ import annotations

import argparse
import hmac
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BODY = 16 * 1024 * 1024  # bytes
TURN_ENDPOINTS = ("messages", "statuses")
ERRORS = {
    401: "not the Bearer token of this channel",
    404: "Turn's API has only messages and statuses",
    503: "told to fail",
}


def say(text: str) -> None:
    """One line for whoever looks on."""
    print(f"receiver | {text}", flush=True)


class Receiver(ThreadingHTTPServer):
    """The server and what it remembers.

    :param fail: how many POSTs are answered 503 before the first 200
    :param turn_path: the path below which it is Turn
    :param turn_token: the Bearer token that is wanted there; without one there is no Turn
    """

    daemon_threads = True

    def __init__(
        self, host: str, port: int, *, fail: int = 0, turn_path: str = "/turn", turn_token: str | None = None
    ) -> None:
        super().__init__((host, port), _Handler)
        self._lock = threading.Lock()
        self._fail = fail
        self._turn_path = turn_path.rstrip("/")
        self._turn_token = turn_token
        self._last: dict[str, Any] | None = None

    @property
    def last(self) -> dict[str, Any] | None:
        """The last inbound message: the last object that isn't an event, and was answered 200."""
        return self._last

    def received(self, path: str, authorization: str, body: object) -> int:
        """Take in a POST's JSON; the status to answer."""
        is_turn = self._turn_token is not None and f"{path}/".startswith(f"{self._turn_path}/")
        if is_turn:
            if path.removeprefix(f"{self._turn_path}/") not in TURN_ENDPOINTS:
                return 404
            if not hmac.compare_digest(authorization.encode(), f"Bearer {self._turn_token}".encode()):
                return 401
        with self._lock:
            if self._fail > 0:
                self._fail -= 1
                return 503
            if isinstance(body, dict) and "event_type" not in body and not is_turn:
                self._last = body
            return 200


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a client may be silent

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            self._answer(
                411 if not length else 413, {"error": "a Content-Length is needed, of 16 MiB at most"}
            )
            return
        text = self.rfile.read(int(length)).decode("utf-8", "replace")
        try:
            body = json.loads(text)
        except ValueError:
            say(f"POST {self.path} -> 400, not JSON: {text[:200]!r}")
            self._answer(400, {"error": "not JSON"})
            return
        authorization = self.headers.get("Authorization") or ""
        status = self.server.received(self.path, authorization, body)
        scheme = authorization.partition(" ")[0]
        signed = f" ({scheme} authorization)" if scheme else ""
        say(f"POST {self.path}{signed} -> {status}\n{json.dumps(body, indent=2, ensure_ascii=False)}")
        self._answer(status, {} if status == 200 else {"error": ERRORS[status]})

    def do_GET(self) -> None:
        last = self.server.last
        path, _, field = self.path.strip("/").partition("/")
        if path != "last":
            self._answer(404, {"error": "only POST, and GET /last or /last/FIELD"})
        elif last is None:
            self._answer(404, {"error": "no inbound message came yet"})
        elif field:
            self._send(200, "text/plain; charset=utf-8", str(last.get(field, "")).encode())
        else:
            self._answer(200, last)

    def _answer(self, status: int, body: object) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: each POST has its line already."""


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.receiver", description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (%(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="where it listens (%(default)s)")
    parser.add_argument("--fail", type=int, default=0, metavar="N", help="answer the first N POSTs with 503")
    parser.add_argument("--turn-path", default="/turn", help="below which it plays Turn (%(default)s)")
    parser.add_argument("--turn-token", help="the Bearer token of Turn; without one it doesn't play Turn")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Serve until SIGINT or SIGTERM."""
    options = arguments(argv)
    try:
        receiver = Receiver(
            options.host,
            options.port,
            fail=options.fail,
            turn_path=options.turn_path,
            turn_token=options.turn_token,
        )
    except OSError as error:
        sys.exit(f"receiver | can't listen on {options.host}:{options.port}: {error.strerror}")

    def stop(*_: object) -> None:
        # shutdown() waits for the loop that this handler interrupts.
        threading.Thread(target=receiver.shutdown).start()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    say(f"listening on {options.host}:{receiver.server_port}")
    with receiver:
        receiver.serve_forever(poll_interval=0.2)


if __name__ == "__main__":
    main(sys.argv[1:])
