"""Receiver of the demo: it stands in for RapidPro and for Turn, prints each request and answers it with 200.

``GET /last`` gives the last inbound message that came, ``GET /last/message_id`` one field of it as plain text.
With ``--turn-token`` it is Turn's API below ``/turn``: ``/turn/messages`` and ``/turn/statuses`` want that Bearer
token, and answer 401 to any other; a call over Turn's quota gets a 429 with Turn's headers.  Below ``/c/ex`` and
``/c/kn`` it is RapidPro's courier (courier.py), with an External and a Kannel channel.
"""

from __future__ import annotations

import argparse
import hmac
import json
import sys
import time
from typing import Any
from urllib.parse import parse_qsl

from attrs import evolve
from twisted.internet.error import CannotListenError

from tools.demo import courier
from tools.servers.quota import Quota
from tools.servers.receiver import Answer, Received, Receiver

MAX_BODY = 16 * 1024 * 1024  # bytes
TURN_ENDPOINTS = ("messages", "statuses")
COURIER_PATHS = ("/c/ex/", "/c/kn/")
ERRORS = {
    400: "not JSON",
    401: "not the Bearer token of this channel",
    404: "Turn's API has only messages and statuses",
    413: "more than 16 MiB",
    503: "asked to fail",
}


TOO_MANY = b'{"errors": [{"code": 429, "title": "Too many requests"}]}'


NEWLINE = "\v"
"""Stands in for the newlines of a record with ``--records``, so that a record is one line."""


def say(text: str) -> None:
    """Print a record for the person at the terminal."""
    print(f"receiver | {text}", flush=True)


def _json(status: int, body: object) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def _error(status: int) -> Answer:
    return _json(status, {"error": ERRORS[status]})


class DemoReceiver(Receiver):
    """The receiver; its script and its default are for the POSTs that it would accept.

    :param turn_path: the path below which it is Turn
    :param turn_token: the Bearer token that is wanted there; without one there is no Turn
    :param turn_quota: the quota there
    :param newline: separates the lines of a record
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        *,
        turn_path: str = "/turn",
        turn_token: str | None = None,
        turn_quota: Quota | None = None,
        newline: str = "\n",
    ) -> None:
        super().__init__(reactor, interface=host)
        self.default = _json(200, {})
        self._turn_path = turn_path.rstrip("/")
        self._turn_token = turn_token
        self._turn_quota = turn_quota
        self._newline = newline
        self._last: dict[str, Any] | None = None

    def answer_to(self, request: Received) -> Answer:
        """Print a POST and answer it; answer a GET with the last inbound message."""
        # It may run for days.
        self.requests.clear()
        if request.path.startswith(COURIER_PATHS):
            return self._answer_as_courier(request)
        if request.method != "POST":
            return self._answer_get(request.path)
        if len(request.body) > MAX_BODY:
            return _error(413)
        text = request.body.decode("utf-8", "replace")
        try:
            body = json.loads(text)
        except ValueError:
            self._say(f"POST {request.path} -> 400, not JSON: {text[:200]!r}")
            return _error(400)
        authorization = request.headers.get("authorization", "")
        answer = self._answer_post(request, authorization, body)
        scheme = authorization.partition(" ")[0]
        signed = f" ({scheme} authorization)" if scheme else ""
        shown = json.dumps(body, indent=2, ensure_ascii=False)
        left = answer.headers.get("X-Ratelimit-Remaining")
        calls = f", {left} of {answer.headers['X-Ratelimit-Limit']} calls left" if left else ""
        self._say(f"POST {request.path}{signed} -> {answer.status}{calls}\n{shown}")
        return answer

    def _answer_post(self, request: Received, authorization: str, body: object) -> Answer:
        is_turn = self._turn_token is not None and f"{request.path}/".startswith(f"{self._turn_path}/")
        if is_turn:
            if request.path.removeprefix(f"{self._turn_path}/") not in TURN_ENDPOINTS:
                return _error(404)
            if not hmac.compare_digest(authorization.encode(), f"Bearer {self._turn_token}".encode()):
                return _error(401)
        headers: dict[str, str] = {}
        if is_turn and self._turn_quota is not None:
            within, headers = self._turn_quota.call(time.monotonic(), time.time())
            if not within:
                return Answer(429, headers | {"Content-Type": "application/json"}, TOO_MANY)
        answer = super().answer_to(request)
        answer = evolve(answer, headers=answer.headers | headers)
        # The last object that isn't an event, and was answered 200.
        if answer.status == 200 and isinstance(body, dict) and "event_type" not in body and not is_turn:
            self._last = body
        return answer

    def _answer_as_courier(self, request: Received) -> Answer:
        scripted = self._scripts[None]
        if scripted:
            return scripted.popleft()
        content_type = request.headers.get("content-type", "")
        status, answer = courier.answer_to(request.method, request.path, content_type, request.body)
        path, _, query = request.path.partition("?")
        fields = parse_qsl(f"{query}&{request.body.decode('utf-8', 'replace')}", keep_blank_values=True)
        shown = json.dumps(dict(fields), indent=2, ensure_ascii=False)
        said = answer["data"][0].get("error") or answer["message"]
        self._say(f"{request.method} {path} -> {status}, {said}\n{shown}")
        return _json(status, answer)

    def _say(self, record: str) -> None:
        say(record.replace("\n", self._newline))

    def _answer_get(self, path: str) -> Answer:
        first, _, field = path.strip("/").partition("/")
        if first != "last":
            return _json(404, {"error": "only POST, and GET /last or /last/FIELD"})
        if self._last is None and field:
            # It stands in a command line in place of the field, and the daemon's answer shows it.
            return Answer(
                404, {"Content-Type": "text/plain; charset=utf-8"}, b"none-yet-type-a-line-at-the-phone"
            )
        if self._last is None:
            return _json(404, {"error": "no inbound message came yet"})
        if field:
            text = str(self._last.get(field, "")).encode()
            return Answer(200, {"Content-Type": "text/plain; charset=utf-8"}, text)
        return _json(200, self._last)


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.receiver", description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (%(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="where it listens (%(default)s)")
    parser.add_argument("--fail", type=int, default=0, metavar="N", help="answer the first N POSTs with 503")
    parser.add_argument("--turn-path", default="/turn", help="below which it plays Turn (%(default)s)")
    parser.add_argument("--turn-token", help="the Bearer token of Turn; without one it doesn't play Turn")
    parser.add_argument(
        "--turn-calls", type=int, default=60, help="Turn's quota: as many calls (%(default)s)"
    )
    parser.add_argument(
        "--turn-seconds", type=float, default=60.0, help="within as many seconds (%(default)g)"
    )
    parser.add_argument("--records", action="store_true", help="print each record as one line")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Serve until SIGINT or SIGTERM."""
    from twisted.internet import reactor

    options = arguments(argv)
    receiver = DemoReceiver(
        reactor,
        options.host,
        turn_path=options.turn_path,
        turn_token=options.turn_token,
        turn_quota=Quota(options.turn_calls, options.turn_seconds),
        newline=NEWLINE if options.records else "\n",
    )
    receiver.script(*[_error(503)] * options.fail)
    try:
        receiver.start(options.port)
    except CannotListenError as error:
        sys.exit(f"receiver | can't listen on {options.host}:{options.port}: {error.socketError.strerror}")
    say(f"listening on {options.host}:{receiver.port}")
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
