"""The signature of Turn's webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.applications.turn.signature import sign, verify
from junebug_turn.errors import Unauthorized

SECRET = b"s3cret"


def test_known_signature() -> None:
    """The signature is base64 of HMAC-SHA256 of the raw body, as computed by hand."""
    body = '{ "to": "é" }'.encode()
    expected = base64.b64encode(hmac.new(SECRET, body, hashlib.sha256).digest())
    verify([SECRET], body, [expected])


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=200))
def test_own_signature_is_right(secret: bytes, body: bytes) -> None:
    """Any body with its signature is accepted."""
    verify([secret], body, [sign(secret, body)])


@given(st.binary(min_size=1, max_size=200), st.integers(0, 199), st.integers(1, 255))
def test_one_changed_byte(body: bytes, place: int, change: int) -> None:
    """Any change of one byte of the body is refused."""
    place %= len(body)
    changed = body[:place] + bytes([body[place] ^ change]) + body[place + 1 :]
    with pytest.raises(Unauthorized):
        verify([SECRET], changed, [sign(SECRET, body)])


@given(st.binary(max_size=60))
def test_any_other_signature(header: bytes) -> None:
    """Any other header, ASCII or not, is refused, and what would have been right is not told."""
    with pytest.raises(Unauthorized) as caught:
        verify([SECRET], b"{}", [header])
    assert sign(SECRET, b"{}").decode() not in str(caught.value)


def test_none_and_two() -> None:
    """A request without the header, or with two of which one is right, is refused."""
    right = sign(SECRET, b"{}")
    for headers in ([], [right, right], [b"x", right]):
        with pytest.raises(Unauthorized, match="X-Turn-Hook-Signature"):
            verify([SECRET], b"{}", headers)


def test_white_space_counts() -> None:
    """The raw bytes are signed: the same JSON with other white space has another signature."""
    with pytest.raises(Unauthorized):
        verify([SECRET], b'{"to":"1"}', [sign(SECRET, b'{"to": "1"}')])


def test_several_secrets() -> None:
    """Any of the secrets verifies, and no other."""
    for secret in (b"old", b"new"):
        verify([b"old", b"new"], b"{}", [sign(secret, b"{}")])
    with pytest.raises(Unauthorized):
        verify([b"old", b"new"], b"{}", [sign(b"other", b"{}")])
