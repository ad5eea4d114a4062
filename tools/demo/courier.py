"""Courier's side of the External and Kannel channels: the requests that it makes, and how it answers ours.

Courier is the part of RapidPro that speaks with gateways.  The rules are those of its handlers ``external`` and
``kannel``, in the three families that are in use: ``current`` (nyaruka's), ``stable`` (8.0 to 9.0) and ``weni``.  It
shares no code with the daemon.  Tested by tests/tools/demo/test_courier.py.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from attrs import Factory, frozen

FAMILIES = ("current", "stable", "weni")
CHANNEL = "8eb23e93-5ecb-45ba-b726-3b064e0c56ab"
FORM = "application/x-www-form-urlencoded"
FORM_TYPES = ("", FORM, "multipart/form-data")

_AGENTS = {"current": "Courier/26.3.38", "stable": "Courier/8.0.2", "weni": "Courier/1.64.0"}
_KANNEL_STATUSES = {"1": "D", "2": "E", "4": "S", "8": "S", "16": "E"}
_STATUSES = {"sent": "S", "delivered": "D", "failed": "F"}


@frozen
class SendRequest:
    """One request to a gateway."""

    method: str
    url: str
    headers: dict[str, str] = Factory(dict)
    body: bytes = b""


@frozen(kw_only=True)
class Outgoing:
    """A message of RapidPro, with the values that a template can name.

    :ivar id: numeric, or a UUID for the ``current`` family
    :ivar session_status: W, C or empty
    """

    text: str
    to: str
    sender: str = "+8864"
    id: str = "12345"
    session_status: str = ""
    quick_replies: Sequence[str] = ()

    def variables(self, text: str, *, last: bool) -> dict[str, Any]:
        """Return the variables of one part."""
        return {
            "id": self.id,
            "uuid": self.id,
            "text": text,
            "to": self.to,
            "to_no_plus": self.to.lstrip("+"),
            "from": self.sender,
            "from_no_plus": self.sender.lstrip("+"),
            "channel": CHANNEL,
            "session_status": self.session_status,
            "quick_replies": list(self.quick_replies) if last else [],
        }


def new_id(family: str, number: int = 12345) -> str:
    """Make a message id as a family has it."""
    return str(uuid.uuid4()) if family == "current" else str(number)


def parts_of(text: str, max_length: int) -> list[str]:
    """Split a text at ``max_length`` bytes, near a space, as courier does."""
    parts = [""]
    for word in re.findall(r"\S+\s*", text) or [text]:
        if len((parts[-1] + word).encode()) > max_length and parts[-1]:
            parts.append("")
        parts[-1] += word
    return [part.rstrip() if number < len(parts) - 1 else part for number, part in enumerate(parts)]


def external(
    family: str,
    url: str,
    message: Outgoing,
    *,
    content: str = "form",
    body: str | None = None,
    max_length: int = 160,
    authorization: str | None = None,
) -> list[SendRequest]:
    """Make the requests of an External channel, one for each part.

    :param url: the send URL, a template
    :param content: ``form``, ``json`` or ``get``
    :param body: the template of the body; by default the one that RapidPro's form suggests
    """
    if body is None:
        id = "uuid={{uuid}}" if family == "current" else "id={{id}}"
        body = id + "&text={{text}}&to={{to}}&to_no_plus={{to_no_plus}}&from={{from}}&channel={{channel}}"
        if content == "json":
            body = '{"to": {{to}}, "from": {{from}}, "text": {{text}}, "quick_replies": {{quick_replies}}}'
    parts = parts_of(message.text, max_length)
    headers = {"User-Agent": _AGENTS[family]}
    if authorization is not None:
        headers["Authorization"] = authorization
    made = []
    for number, part in enumerate(parts):
        variables = message.variables(part, last=number == len(parts) - 1)
        if family != "current":
            # A variable that a family doesn't know stays as it is.
            del variables["uuid"]
        filled = _filled(url, {name: _query(value) for name, value in variables.items()})
        if content == "json":
            data = _filled(body, {name: _json(value) for name, value in variables.items()})
            made.append(
                SendRequest("POST", filled, {**headers, "Content-Type": "application/json"}, data.encode())
            )
            continue
        replies = "".join(f"&quick_reply={quote_plus(reply)}" for reply in variables["quick_replies"])
        data = _filled(body, {name: _query(value) for name, value in variables.items()}) + replies
        if content == "get":
            joint = "&" if "?" in filled else "?"
            made.append(SendRequest("GET", f"{filled}{joint}{data}", headers))
        else:
            made.append(SendRequest("POST", filled, {**headers, "Content-Type": FORM}, data.encode()))
    return made


def kannel(
    family: str, url: str, message: Outgoing, callback: str, username: str = "", password: str = ""
) -> SendRequest:
    """Make the request of a Kannel channel.

    :param callback: RapidPro's address of the channel, https://HOST/c/kn/UUID
    """
    name = "uuid" if family == "current" else "id"
    fields = {
        "username": username,
        "password": password,
        "from": message.sender,
        "to": message.to,
        "dlr-url": f"{callback}/status?{name}={message.id}&status=%d",
        "dlr-mask": "27",
    }
    text = message.text.encode()
    if not message.text.isascii():
        fields["coding"] = "2"
        if family == "current":
            text = message.text.encode("utf-16-be")
        else:
            fields["charset"] = "utf8"
    query = urlencode({**fields, "text": text})
    return SendRequest("GET", f"{url}?{query}", {"User-Agent": _AGENTS[family]})


def judged(family: str, status: int, body: str, check: str = "") -> str:
    """Return what becomes of a message after an answer: ``wired``, ``retried`` or ``failed``."""
    if 200 <= status < 300:
        if check in body:
            return "wired"
        return "failed" if family == "current" else "retried"
    if family != "current":
        return "retried"
    return "retried" if status >= 500 or status == 429 else "failed"


def answer_to(
    method: str, target: str, content_type: str, body: bytes, *, numeric: bool | None = None
) -> tuple[int, dict[str, Any]]:
    """Answer a request below ``/c/ex/UUID`` or ``/c/kn/UUID``: the status and the JSON.

    :param numeric: whether ids are numbers (``stable``, ``weni``) or UUIDs (``current``); None takes both
    """
    parts = urlsplit(target)
    _, _, kind, channel, action, *_ = [*parts.path.split("/"), "", "", ""]
    if channel != CHANNEL:
        return _error(400, "channel not found")
    if method not in ("GET", "POST"):
        return _error(405, "method not allowed")
    fields = dict(parse_qsl(parts.query, keep_blank_values=True))
    media_type = content_type.partition(";")[0].strip().lower()
    if method == "POST" and media_type in FORM_TYPES:
        # A body in JSON is not read.
        fields |= dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    if action == "receive":
        return _received(kind, fields)
    if kind == "kn" and action == "status":
        status = _KANNEL_STATUSES.get(fields.get("status", ""))
        if status is None:
            return _error(400, "unknown status")
        return _status(fields, status, numeric)
    if kind == "ex" and action in _STATUSES:
        return _status(fields, _STATUSES[action], numeric)
    return _error(404, "not found")


def _received(kind: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
    if kind == "kn":
        missing = [name for name in ("id", "ts", "sender") if not fields.get(name)]
        if missing:
            return _error(400, f"field '{missing[0]}' required")
        if not fields["ts"].isdigit():
            return _error(400, "invalid ts")
        return _message(fields["sender"], fields.get("message", ""), fields["ts"])
    sender = fields.get("from") or fields.get("sender")
    if not sender:
        return _error(400, "must have one of 'sender' or 'from' set")
    date = fields.get("date") or fields.get("time") or ""
    if date and not _is_rfc3339(date):
        return _error(400, f"invalid date format: {date}, must be RFC 3339")
    return _message(sender, fields.get("text", ""), date)


def _is_rfc3339(date: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", date):
        return False
    try:
        datetime.fromisoformat(date)
    except ValueError:
        return False
    return True


def _message(sender: str, text: str, received_on: str) -> tuple[int, dict[str, Any]]:
    data = {
        "type": "msg",
        "channel_uuid": CHANNEL,
        "msg_uuid": str(uuid.uuid4()),
        "text": text,
        "urn": f"tel:{sender}",
        "received_on": received_on,
    }
    return 200, {"message": "Message Accepted", "data": [data]}


def _status(fields: dict[str, str], status: str, numeric: bool | None) -> tuple[int, dict[str, Any]]:
    id = fields.get("uuid") or fields.get("id") or ""
    is_number = re.fullmatch(r"\d{1,19}", id) is not None
    is_uuid = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", id) is not None
    if not (is_number and numeric is not False) and not (is_uuid and not numeric):
        return _error(400, "invalid id")
    # An id that isn't known is answered so, too.
    data = {"type": "status", "channel_uuid": CHANNEL, "status": status, "id": id}
    return 200, {"message": "Status Update Accepted", "data": [data]}


def _error(status: int, text: str) -> tuple[int, dict[str, Any]]:
    return status, {"message": "Error", "data": [{"type": "error", "error": text}]}


def _filled(template: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template


def _query(value: Any) -> str:
    return quote_plus(value if isinstance(value, str) else json.dumps(value))


def _json(value: Any) -> str:
    # As Go writes it, which thinks of HTML.
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
