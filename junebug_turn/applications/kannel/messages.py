"""Translation of sendsms, and of Kannel's requests for inbound messages, to and from vumi's messages, without I/O.

The formats are those of Kannel's user guide, "SMS push" and "SMS services", as its smsbox has them.
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases
from urllib.parse import urlencode, urlsplit

from attrs import frozen

from junebug_turn.applications.kannel.escapes import unix_seconds
from junebug_turn.applications.kannel.parameters import Parameters
from junebug_turn.applications.message_request import MessageRequest, check_size
from junebug_turn.errors import InvalidBody
from junebug_turn.http.errors import Answer
from junebug_turn.messages.vumi import Message

MAX_RECEIVERS = 100
MAX_URL_LENGTH = 8192

ACCEPTED = "0: Accepted for delivery"
UNAUTHORIZED = "Authorization failed for sendsms"
FAILED = "Temporal failure, try again later."

# The charset of a text whose request gives none, by its coding: 7 bits, 8 bits, UCS-2.
_CHARSETS = {0: "utf_8", 1: "latin_1", 2: "utf_16_be"}


def _squeezed(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


# Python has more codecs, some of which are no charsets; and it remembers each name that it is asked for.
_CODECS = {"utf_8", "ascii", "utf_16", "utf_16_be", "utf_16_le", "koi8_r", "koi8_u", "latin_1"}
_CODECS |= {f"iso8859_{part}" for part in (*range(2, 12), *range(13, 17))} | {f"cp125{n}" for n in range(9)}
_NAMES = {_squeezed(codec): codec for codec in _CODECS}
_NAMES |= {_squeezed(alias): codec for alias, codec in aliases.items() if codec in _CODECS}
_NAMES |= {"ucs2": "utf_16_be", "ucs2be": "utf_16_be", "iso10646ucs2": "utf_16_be", "ucs2le": "utf_16_le"}


@frozen(kw_only=True)
class OutboundRequest(MessageRequest):
    """One message of sendsms, validated.

    :ivar dlr_url: the URL for delivery reports, with its escapes
    :ivar dlr_mask: the sum of the statuses that are wanted
    """

    to: str
    content: str
    dlr_url: str | None = None
    dlr_mask: int = 0

    @classmethod
    def all_of(cls, parameters: Parameters) -> list[OutboundRequest]:
        """Validate a request; returns the message for each of its receivers.  Unknown parameters are passed over.

        :raises InvalidBody: a parameter is missing or wrong; the message is in the words of Kannel, where it has some
        """
        receivers = receivers_of(parameters)
        if parameters.first("udh"):
            raise InvalidBody("udh is not supported, rejected")
        content = text_of(parameters)
        from_addr = parameters.text("from").strip() or None
        check_size("from", from_addr)
        dlr_url = _checked_url(parameters.text("dlr-url", "dlrurl").strip())
        mask = (
            parameters.number("dlr-mask") if "dlr-mask" in parameters.form else parameters.number("dlrmask")
        )
        return [
            cls(to=to, content=content, from_addr=from_addr, dlr_url=dlr_url, dlr_mask=mask)
            for to in receivers
        ]


def receivers_of(parameters: Parameters) -> list[str]:
    """Return the numbers in ``to``, which spaces divide, or pluses that aren't the beginning of the numbers.

    :raises InvalidBody: there are none, or too many
    """
    if "to" not in parameters.form:
        raise InvalidBody("Missing receiver number, rejected")
    found: list[str] = []
    for word in parameters.text("to").split():
        # All numbers have a plus, or none has.
        parts = re.split(r"(?=\+)", word) if word.startswith("+") else word.split("+")
        found += [part for part in parts if part.strip("+")]
    if not found:
        raise InvalidBody("Empty receiver number not allowed, rejected")
    if len(found) > MAX_RECEIVERS:
        raise InvalidBody(f"more than {MAX_RECEIVERS} receivers, rejected")
    for number in found:
        check_size("to", number)
    return found


def text_of(parameters: Parameters) -> str:
    """Return the text, by ``coding`` and ``charset``; its characters stay as they are.

    :raises InvalidBody: the coding or the charset is unknown, or the text hasn't that charset
    """
    coding = parameters.number("coding")
    if coding not in _CHARSETS:
        raise InvalidBody("coding must be 0, 1 or 2, rejected")
    name = parameters.first("charset")[:100].decode("latin-1").strip()
    charset = _NAMES.get(_squeezed(name)) if name else _CHARSETS[coding]
    if charset is None:
        raise InvalidBody("charset is unknown, rejected")
    text = parameters.first("text")
    if charset == "utf_16" and not text.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        charset = "utf_16_be"
    try:
        return text.decode(charset)
    except UnicodeDecodeError:
        raise InvalidBody(f"text is not in charset {charset.replace('_', '-')}, rejected") from None


def _checked_url(url: str) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or len(url) > MAX_URL_LENGTH:
        raise InvalidBody("dlr-url must be an absolute http or https URL, rejected")
    return url


def inbound_to_form(message: Message) -> bytes:
    """Return an inbound message as the body of a POST to ``receive_url``."""
    fields = {
        "id": message.message_id,
        "ts": unix_seconds(message.timestamp),
        "message": message.content or "",
        "sender": message.from_addr or "",
        "to": message.to_addr or "",
    }
    return urlencode(fields, encoding="utf-8", errors="replace").encode("ascii")


def error_to_text(answer: Answer) -> tuple[int, str]:
    """Return the status and the line of an error answer."""
    if answer.status == 401:
        return 403, UNAUTHORIZED
    if answer.status in (408, 429, 503):
        return 503, FAILED
    return answer.status, answer.message
