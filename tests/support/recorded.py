"""Recordings of what the daemon puts on the wire, into the broker and into its caches, and how a later run is held
against them.

With ``RECORD_WIRE`` in the environment a recording is written anew; then its difference is for a person to read.
"""

from __future__ import annotations

import difflib
import hmac
import json
import os
import re
import time
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.daemon import Running, until
from tests.support.witnesses import Destination, asked, decoded, put, taken

FOLDER = Path(__file__).parents[1] / "fixtures" / "wire"

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}(?![0-9a-f])")
_TRACE = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-01")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{6})?")
_SECONDS = re.compile(r"(?<!\d)\d{10}(?!\d)")
_DATE = re.compile(r"(?m)^(date:) .*$", re.IGNORECASE)


class Recording:
    """What happens in a scenario, step by step.

    What can't be the same in two runs has a placeholder: a new id or time the same one wherever it comes again.
    Ids and times that the scenario itself has given, which are of 2020, stay.

    :param name: that of its file
    :param places: placeholder -> what stands there in this run, such as an address with its port
    """

    def __init__(self, name: str, places: Mapping[str, str]) -> None:
        self._path = FOLDER / f"{name}.json"
        self._places = {value: f"<{placeholder}>" for placeholder, value in places.items()}
        self._steps: list[dict[str, Any]] = []
        self._numbers: dict[str, str] = {}
        self._now = time.time()

    def add(self, what: str, **seen: Any) -> None:
        """The next step, and what was seen of it."""
        self._steps.append({"what": what, **self.plain(seen)})

    def check(self) -> None:
        """The steps are those that were recorded."""
        text = json.dumps(self._steps, indent=1, ensure_ascii=False) + "\n"
        if os.environ.get("RECORD_WIRE"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(text, "utf-8")
        recorded = self._path.read_text("utf-8")
        lines = difflib.unified_diff(recorded.splitlines(), text.splitlines(), "recorded", "now", lineterm="")
        difference = "\n".join(lines)
        assert not difference, f"{self._path.name}:\n{difference}"

    def plain(self, value: Any) -> Any:
        """``value`` with placeholders, in JSON that tells types apart which JSON does not have."""
        if isinstance(value, Mapping):
            return {self.plain(key): self.plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(each) for each in value]
        if isinstance(value, bytes):
            return self._text(decoded(value))
        if isinstance(value, str):
            return self._text(value)
        # pika has a class of its own for AMQP's 64 bits.
        return value if type(value) in (int, float, bool, type(None)) else f"{type(value).__name__} {value!r}"

    def _text(self, text: str) -> str:
        for value, placeholder in self._places.items():
            text = text.replace(value, placeholder)
        text = _DATE.sub(r"\1 <date>", text)
        text = _TRACE.sub(lambda found: f"00-{self._number('trace', found[1])}-<span>-01", text)
        text = _ID.sub(lambda found: self._number("id", found[0]), text)
        text = _TIME.sub(self._time, text)
        return _SECONDS.sub(lambda found: "<seconds>" if self._is_now(int(found[0])) else found[0], text)

    def _number(self, kind: str, value: str) -> str:
        if value not in self._numbers:
            count = sum(number.startswith(f"<{kind}-") for number in self._numbers.values())
            self._numbers[value] = f"<{kind}-{count + 1}>"
        return self._numbers[value]

    def _time(self, found: re.Match[str]) -> str:
        moment = datetime.fromisoformat(found[0]).replace(tzinfo=UTC)
        if not self._is_now(moment.timestamp()):
            return found[0]
        # One to the second may or may not be that of another step.
        return self._number("time", found[0]) if found[1] else re.sub(r"\d", "9", found[0])

    def _is_now(self, seconds: float) -> bool:
        return abs(seconds - self._now) < 86400


JUNEBUG, TURN = "/channels/c", "/turn"
PHONE = "+27820000001"
TEXT = 'héllo 🐞 "a" \\ \u2028 <b>\n'
HOOK_SECRET = "recorded-hook-secret"
WEBHOOK_SECRET = "recorded-webhook-secret"
MENU = {
    "type": "interactive",
    "interactive": {
        "type": "button",
        "header": {"type": "text", "text": "Clinic"},
        "body": {"text": "How are yóu?"},
        "footer": {"text": "Choose"},
        "action": {
            "buttons": [{"reply": {"id": f"b{n}", "title": t}} for n, t in ((1, "Well"), (2, "Not wéll"))]
        },
    },
}
EVENTS: dict[str, dict[str, Any]] = {
    "ack": {"event_type": "ack", "sent_message_id": "at the network"},
    "nack": {"event_type": "nack", "nack_reason": "no crédit"},
    **{
        status: {"event_type": "delivery_report", "delivery_status": status}
        for status in ("pending", "failed", "delivered")
    },
}
JUNEBUG_FAULTS: dict[str, bytes] = {
    "not JSON": b"{",
    "something after it": b'{"to": "1", "content": "c"} x',
    "NaN": b'{"to": "1", "content": NaN}',
    "not UTF-8": b'{"content": "\xff"}',
    "too deep": b"[" * 100 + b"]" * 100,
    "not an object": b"[]",
    "an unknown field": b'{"to": "1", "content": "c", "foo": 1}',
    "unknown fields": b'{"to": "1", "content": "c", "foo": 1, "bar": 2}',
    "no content": b'{"to": "1"}',
    "neither to nor reply_to": b'{"content": "c"}',
    "a reply to nothing": b'{"reply_to": "X", "to": "1", "content": "c"}',
    "a number for an address": b'{"to": 1, "content": "c"}',
    "a session event of no kind": b'{"to": "1", "content": "c", "channel_data": {"session_event": "x"}}',
    "continue_session": b'{"to": "1", "content": "c", "channel_data": {"continue_session": 1}}',
    "channel_data": b'{"to": "1", "content": "c", "channel_data": []}',
    "priority": b'{"to": "1", "content": "c", "priority": true}',
    "an event URL": b'{"to": "1", "content": "c", "event_url": "ftp://x"}',
    "a token with a line's end": b'{"to": "1", "content": "c", "event_auth_token": "a\\nb"}',
}
TURN_FAULTS: dict[str, bytes] = {
    "not JSON": b"{",
    "not UTF-8": b"\xff",
    "not an object": b"[]",
    "no address": b'{"turn": {"text": {"body": "b"}}}',
    "no message": b'{"to": "1"}',
    "no text": b'{"to": "1", "turn": {"type": "text"}}',
    "another type": b'{"to": "1", "turn": {"type": 5}}',
    "a reply to nothing": b'{"to": "1", "turn": {"text": {"body": "b"}}, "reply_to": "X"}',
    "waiting for a number": b'{"to": "1", "turn": {"text": {"body": "b"}}, "waiting_for_user_input": 1}',
}


def new_id(number: int) -> str:
    """An id that the scenario gives, which no placeholder stands for."""
    return f"{number:032x}"


def inbound(number: int, **fields: Any) -> bytes:
    """A user message in vumi's JSON, as a transport writes it."""
    message: dict[str, Any] = {
        "to_addr": "*120#",
        "from_addr": PHONE,
        "transport_name": "a_transport",
        "transport_type": "ussd",
        "message_version": "20110921",
        "message_type": "user_message",
        "timestamp": f"2020-01-02 03:04:{number:02}.678901",
        "routing_metadata": {},
        "helper_metadata": {"z": 1, "a": {"é": None}},
        "message_id": new_id(number),
        "in_reply_to": None,
        "provider": "a network",
        "session_event": "resume",
        "content": TEXT,
        "transport_metadata": {"s": [1.5, True]},
        "group": "a group",
        "to_addr_type": None,
        "from_addr_type": None,
    }
    return json.dumps(message | fields).encode()


def event(number: int, message_id: str, **fields: Any) -> bytes:
    """An event in vumi's JSON, as a transport writes it."""
    written: dict[str, Any] = {
        "user_message_id": message_id,
        "event_id": new_id(0xE00 + number),
        "message_version": "20110921",
        "message_type": "event",
        "timestamp": f"2020-02-03 04:05:{number:02}.123456",
        "routing_metadata": {},
        "helper_metadata": {},
        "transport_metadata": {},
        "sent_message_id": None,
        "nack_reason": None,
        "delivery_status": None,
    }
    return json.dumps(written | fields).encode()


class Scene:
    """A running daemon with its clients at both sides, and the recording of what they see."""

    def __init__(self, side: Running, destination: Destination, recording: Recording, path: str) -> None:
        self.side = side
        self.destination = destination
        self.recording = recording
        self.path = path

    async def ask(
        self, what: str, method: str, path: str, body: bytes = b"", **headers: str
    ) -> dict[str, Any]:
        """Record an answer."""
        answer = await asked(self.side.url, method, path, body, headers)
        self.recording.add(what, request=[f"{method} {path}"[:200], body], answer=answer)
        return answer

    async def send(self, what: str, body: Any, *, messages: int = 1, slash: str = "", **headers: str) -> str:
        """Record the answer to a message, and what of it is in the outbound queue; returns its id."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if self.path == TURN and not headers:
            headers = {"X-Turn-Hook-Signature": signature(data)}
        answer = await self.ask(what, "POST", f"{self.path}/messages{slash}", data, **headers)
        for _ in range(messages):
            self.recording.add(f"{what}: outbound", **await taken(self.side.channel, self._queue("outbound")))
        if not messages:
            return ""
        told = json.loads(answer["body"])
        return str(told["messages"][0]["id"] if self.path == TURN else told["result"]["message_id"])

    async def deliver(
        self, what: str, kind: str, body: bytes, *answers: int, queue: str = "", **properties: Any
    ) -> None:
        """Record the requests that bring what a transport publishes, so many as there are answers, one by default;
        and the copy in ``queue`` of ours."""
        self.destination.script(*answers)
        put(self.side.channel, self._queue(kind), body, **properties)
        requests = await self.destination.received(len(answers) or 1)
        self.recording.add(f"{what}: delivered", requests=requests)
        if queue:
            await self.copied(what, queue)

    async def copied(self, what: str, queue: str) -> None:
        """Record the next message of a queue of ours."""
        self.recording.add(f"{what}: {queue}", **await taken(self.side.channel, self._queue(queue)))

    def _queue(self, kind: str) -> str:
        return f"{self.side.connector}.{kind}"

    async def end(self) -> None:
        """Nothing is left in the queues, and nothing came or was sent that was not looked at."""
        kinds = ("inbound", "event", "outbound", "inbound.parked", "event.parked")
        await until(lambda: not any(self.side.count(kind) for kind in kinds), "the end of the queues")
        assert self.destination.requests == []


def signature(body: bytes) -> str:
    return b64encode(hmac.digest(HOOK_SECRET.encode(), body, "sha256")).decode()


def webhook(turn: Any = None, **fields: Any) -> dict[str, Any]:
    return {"to": PHONE, "turn": turn or {"type": "text", "text": {"body": TEXT}}, **fields}


async def remember(on: Scene) -> None:
    """Have the caches of either application keep something of each kind."""
    await on.deliver("of the phone", "inbound", inbound(1))
    await on.deliver("of nobody", "inbound", inbound(2, from_addr=None))
    if on.path == TURN:
        await on.send("a reply", webhook())
        known = await on.send("a menu", webhook(MENU))
        await on.deliver("a choice", "inbound", inbound(3, content="1"))
    else:
        await on.send("a reply", {"reply_to": new_id(1), "content": TEXT, "priority": "high"})
        url = on.destination.url("/mine")
        new = {"to": PHONE, "content": TEXT, "event_url": url, "event_auth_token": "recorded-event-url-token"}
        known = await on.send("a message", {**new, "channel_data": {"session_event": "new", "é": 1}})
        await on.deliver("of the unknown", "event", event(9, "nobody knows", **EVENTS["ack"]))
    for number in (1, 2):
        await on.deliver("an event", "event", event(number, known, **EVENTS["delivered"]))
