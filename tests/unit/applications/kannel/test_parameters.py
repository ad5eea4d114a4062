"""Parameters of sendsms, wherever a request has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.web.http_headers import Headers

from junebug_turn.applications.kannel.parameters import Parameters
from junebug_turn.errors import InvalidBody


def read(uri: bytes = b"/", body: bytes = b"", **headers: str) -> Parameters:
    sent = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
    request: Any = SimpleNamespace(uri=uri, take_body=lambda: body, requestHeaders=sent)
    return Parameters.read(request)


def test_url_and_form() -> None:
    """The URL's parameters come before those of a form."""
    parameters = read(
        b"/send?to=1&text=%00%e9", b"to=2&from=3", Content_Type="application/x-www-form-urlencoded"
    )
    assert [parameters.text(name) for name in ("to", "from", "none")] == ["1", "3", ""]
    assert parameters.first("text") == b"\0\xe9"
    assert read(body=b"from=3").text("from") == "3"


def test_headers() -> None:
    """With a text as the body the rest stands in Kannel's headers, whose names have no case."""
    parameters = read(
        b"/send?password=q",
        b"\xe9",
        Content_Type="text/plain; charset=latin1",
        x_kannel_username="u",
        X_KANNEL_TO=" 1 ",
        X_Kannel_DLR_Url="http://h/%d",
        X_Kannel_DLR_Mask="31",
    )
    assert parameters.first("username", "user") == b"u"
    assert parameters.first("password") == b"q"
    assert (parameters.first("to"), parameters.first("text"), parameters.text("charset")) == (
        b"1",
        b"\xe9",
        "latin1",
    )
    assert (parameters.text("dlr-url"), parameters.number("dlr-mask"), parameters.number("coding", 9)) == (
        "http://h/%d",
        31,
        0,
    )


@pytest.mark.parametrize(
    ("headers", "coding"),
    [
        ({"Content_Type": "application/octet-stream"}, 1),
        ({"Content_Type": "application/octet-stream", "X_Kannel_Coding": "2"}, 2),
        ({"Content_Type": "text/plain"}, 0),
    ],
)
def test_coding(headers: dict[str, str], coding: int) -> None:
    """Where there is no coding it is that of the content type."""
    assert read(body=b"x", **headers).number("coding") == coding


@pytest.mark.parametrize("media_type", ["text/xml", "application/json", "multipart/form-data; boundary=x"])
def test_other_bodies(media_type: str) -> None:
    """A body of another type is refused; without a body the type says nothing."""
    assert read(b"/send?to=1", Content_Type=media_type).text("to") == "1"
    with pytest.raises(InvalidBody, match="Invalid content-type"):
        read(body=b"x", Content_Type=media_type)


def test_names() -> None:
    """Each of a parameter's names will do."""
    assert read(b"/send?user=u&pass=p").first("username", "user") == b"u"
    assert read(b"/send?username=&user=u").first("username", "user") == b""


@pytest.mark.parametrize("value", [b"x", b"-1", b"1.5", b"\xc2\xb2", b"1" * 10])
def test_wrong_number(value: bytes) -> None:
    """What is no number, or none of a possible size, is refused."""
    with pytest.raises(InvalidBody, match="coding is no number"):
        Parameters({"coding": [value]}).number("coding")


def test_not_utf8() -> None:
    """A parameter other than the text is UTF-8."""
    with pytest.raises(InvalidBody, match="from is not UTF-8"):
        Parameters({"from": [b"\xff"]}).text("from")
