"""Queries and forms, as programs write them and as nobody does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from junebug_turn.errors import InvalidBody
from junebug_turn.http.forms import MAX_PARAMETERS, content_type_of, query_of, read_form


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"", {}),
        (
            b"to=%2B27&text=a+b%20c&empty=&none",
            {"to": [b"+27"], "text": [b"a b c"], "empty": [b""], "none": [b""]},
        ),
        (b"q=1&q=2&&q=%C3%BC", {"q": [b"1", b"2", b"\xc3\xbc"]}),
        (b"text=%00%68%00%69&raw=\xff;=%zz%", {"text": [b"\0h\0i"], "raw": [b"\xff;=%zz%"]}),
    ],
)
def test_form(data: bytes, form: dict[str, list[bytes]]) -> None:
    """Names have their values in order, as bytes; nothing is malformed."""
    assert read_form(data) == form


@given(st.dictionaries(st.text("abc-", min_size=1), st.lists(st.binary(), min_size=1), max_size=5))
def test_any_bytes(form: dict[str, list[bytes]]) -> None:
    """Any bytes come back, both percent-encoded and as urllib writes them."""
    by_hand = "&".join(f"{name}={quote_from_bytes(each)}" for name in form for each in form[name])
    assert read_form(by_hand.encode()) == form
    assert read_form(urlencode(form, doseq=True).encode()) == form


@given(st.binary())
def test_any_form(data: bytes) -> None:
    """Whatever comes is read."""
    read_form(data)


def test_too_many() -> None:
    """The number of parameters has a bound."""
    assert len(read_form(b"a=&" * (MAX_PARAMETERS - 1) + b"a=")["a"]) == MAX_PARAMETERS
    with pytest.raises(InvalidBody, match="more than 1000 parameters"):
        read_form(b"a&" * MAX_PARAMETERS + b"a")


def _request(uri: bytes = b"/", content_type: bytes | None = None) -> Any:
    headers = Headers() if content_type is None else Headers({b"Content-Type": [content_type]})
    return SimpleNamespace(uri=uri, requestHeaders=headers)


def test_query() -> None:
    """The query of a request begins at the first question mark."""
    assert query_of(_request(b"/send?a=?&b=1")) == {"a": [b"?"], "b": [b"1"]}
    assert query_of(_request(b"/send")) == {}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ("", {})),
        (b"Application/JSON", ("application/json", {})),
        (b"\xff", ("\xff", {})),
        (b'text/plain; Charset="UTF-8";x', ("text/plain", {"charset": "UTF-8", "x": ""})),
    ],
)
def test_content_type(header: bytes | None, expected: Any) -> None:
    """The media type counts in lower case, without its parameters."""
    assert content_type_of(_request(content_type=header)) == expected
