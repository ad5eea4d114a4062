"""sendsms becomes messages: receivers, codings, charsets and dlr-urls; and what it refuses."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.applications.kannel.messages import OutboundRequest, error_to_text, inbound_to_form
from junebug_turn.applications.kannel.parameters import Parameters
from junebug_turn.errors import InvalidBody, RateLimited, Unauthorized
from junebug_turn.http.errors import answer_for
from junebug_turn.messages.vumi import Message


def requests(**form: bytes) -> list[OutboundRequest]:
    given = {"to": b"+27820000001", "text": b"hi"} | form
    return OutboundRequest.all_of(
        Parameters({name.replace("_", "-"): [value] for name, value in given.items()})
    )


def text(value: bytes, **form: bytes) -> str:
    (request,) = requests(text=value, **form)
    return request.content


@pytest.mark.parametrize(
    ("to", "receivers"),
    [
        (b"+27820000001", ["+27820000001"]),
        (b"27820000001", ["27820000001"]),
        (b"27820000001 27820000002", ["27820000001", "27820000002"]),
        (b" +27820000001  +27820000002 ", ["+27820000001", "+27820000002"]),
        (b"+27820000001+27820000002", ["+27820000001", "+27820000002"]),
        (b"27820000001+27820000002", ["27820000001", "27820000002"]),
        (b"27820000001++27820000002+", ["27820000001", "27820000002"]),
    ],
)
def test_receivers(to: bytes, receivers: list[str]) -> None:
    """Several receivers are divided by spaces or pluses; each has a message of its own; a plus may begin a number."""
    assert [request.to for request in requests(to=to)] == receivers


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"value": "Molo ☺ é €".encode()}, "Molo ☺ é €"),
        ({"value": "☺".encode("utf-16-be"), "coding": b"2"}, "☺"),
        ({"value": "☺".encode(), "coding": b"2", "charset": b"utf8"}, "☺"),
        ({"value": "☺".encode(), "coding": b"2", "charset": b"UTF-8"}, "☺"),
        ({"value": "é€".encode("cp1252"), "coding": b"0", "charset": b"windows-1252"}, "é€"),
        ({"value": b"\xe9", "charset": b"ISO-8859-1"}, "é"),
        ({"value": b"\xa4", "charset": b"iso-8859-15"}, "€"),
        ({"value": b"\xe9", "charset": b"latin1"}, "é"),
        ({"value": b"\xe9\0", "coding": b"1"}, "é\0"),
        ({"value": "☺".encode("utf-16"), "charset": b"UTF-16"}, "☺"),
        ({"value": "☺".encode("utf-16-be"), "charset": b"UTF-16"}, "☺"),
        ({"value": "☺".encode("utf-16-le"), "charset": b"UTF-16LE"}, "☺"),
        ({"value": "☺".encode("utf-16-be"), "charset": b"UCS-2"}, "☺"),
        ({"value": "Привет".encode("koi8-r"), "charset": b"KOI8-R"}, "Привет"),
        ({"value": b"", "coding": b""}, ""),
        # Look-alikes of GSM 03.38 and what stands near them.
        ({"value": "`´’ˈ@Δ_{}[]~^|€ΓΘ\u00a0ñÇç".encode()}, "`´’ˈ@Δ_{}[]~^|€ΓΘ\u00a0ñÇç"),
    ],
)
def test_text(form: dict[str, Any], expected: str) -> None:
    """A text is read by its coding and charset, and its characters stay as they are."""
    assert text(**form) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text(content: str) -> None:
    """Any text comes back in each of Unicode's encodings."""
    assert text(content.encode()) == content
    assert text(content.encode("utf-16-be"), coding=b"2") == content
    assert text(content.encode("utf-16-le"), charset=b"utf-16le") == content


def test_dlr() -> None:
    """The dlr-url stays with its escapes; without a mask nothing is wanted."""
    url = b"http://rapidpro/c/kn/1/status?id=7&status=%d"
    (request,) = requests(dlr_url=url, dlr_mask=b"27")
    assert (request.dlr_url, request.dlr_mask) == (url.decode(), 27)
    (older,) = requests(dlrurl=url, dlrmask=b"31")
    assert (older.dlr_url, older.dlr_mask) == (url.decode(), 31)
    (without,) = requests(dlr_url=url)
    assert without.dlr_mask == 0


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"to": b""}, "Empty receiver number not allowed, rejected"),
        ({"to": b" + "}, "Empty receiver number not allowed, rejected"),
        ({"to": b"\xff"}, "to is not UTF-8"),
        ({"to": b"1 " * 101}, "more than 100 receivers"),
        ({"to": b"1" * 256}, "to must not be longer than 255"),
        ({"from": b"1" * 256}, "from must not be longer than 255"),
        ({"udh": b"\x05\0\x03"}, "udh is not supported"),
        ({"coding": b"3"}, "coding must be 0, 1 or 2"),
        ({"coding": b"x"}, "coding is no number"),
        ({"dlr_mask": b"-1"}, "dlr-mask is no number"),
        ({"dlr_mask": b"1" * 5000}, "dlr-mask is no number"),
        ({"charset": b"klingon"}, "charset is unknown"),
        ({"charset": b"unicode_escape"}, "charset is unknown"),
        ({"charset": b"\0"}, "charset is unknown"),
        ({"text": b"\xff"}, "text is not in charset utf-8"),
        ({"text": b"\xff", "coding": b"2"}, "text is not in charset utf-16-be"),
        ({"dlr_url": b"ftp://h/"}, "dlr-url must be an absolute"),
        ({"dlr_url": b"http://[/"}, "dlr-url must be an absolute"),
        ({"dlr_url": b"http://h/\n"}, None),
        ({"dlr_url": b"http://h/\nx"}, "dlr-url must be an absolute"),
        ({"dlr_url": b"http://h/" + b"x" * 9000}, "dlr-url must be an absolute"),
    ],
)
def test_refused(form: dict[str, bytes], message: str | None) -> None:
    """What is missing, wrong or not supported is refused in one line."""
    if message is None:
        requests(**form)
        return
    with pytest.raises(InvalidBody, match=message):
        requests(**form)


def test_no_receiver() -> None:
    """Without `to` there is no receiver."""
    with pytest.raises(InvalidBody, match="Missing receiver number, rejected"):
        OutboundRequest.all_of(Parameters({"text": [b"hi"]}))


def test_inbound() -> None:
    """An inbound message is a form of id, ts, message, sender and to."""
    message = Message(
        to_addr="8110",
        from_addr="+27820000001",
        transport_name="t",
        transport_type="sms",
        content="Molo ☺",
        message_id="m1",
        timestamp=datetime(2026, 1, 2, 3, 4, 5, 678901),
    )
    assert dict(parse_qsl(inbound_to_form(message).decode())) == {
        "id": "m1",
        "ts": "1767323045",
        "message": "Molo ☺",
        "sender": "+27820000001",
        "to": "8110",
    }


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (Unauthorized("x"), 403, "Authorization failed for sendsms"),
        (InvalidBody("text is wrong"), 400, "text is wrong"),
        (RateLimited("x"), 503, "Temporal failure, try again later."),
        (RuntimeError("secret"), 500, "internal server error"),
    ],
)
def test_error(error: Exception, status: int, line: str) -> None:
    """Errors have Kannel's statuses and words."""
    assert error_to_text(answer_for(error)) == (status, line)
