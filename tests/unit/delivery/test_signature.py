"""The headers that name and sign a delivery, as the Standard Webhooks specification has them."""

from __future__ import annotations

import hmac
import re
import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.delivery.signature import SECRET_PREFIX, Webhook, signature, signing_key

keys = st.binary(min_size=1, max_size=64)
bodies = st.binary(max_size=200)


def test_known_vector() -> None:
    """The signature is the one that the reference libraries of the specification test themselves with."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(keys)
def test_standard_secret(key: bytes) -> None:
    """whsec_ and base64 is the key that the base64 encodes."""
    assert signing_key("whsec_" + b64encode(key).decode()) == key


@given(st.text(min_size=1).filter(lambda text: not text.startswith("whsec_") and text.isprintable()))
def test_plain_secret(secret: str) -> None:
    """Any other text is the key by its UTF-8 bytes."""
    assert signing_key(secret) == secret.encode()


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64", "whsec_AAA", "whsec_é"])
def test_secret_that_is_none(secret: str) -> None:
    """A secret that is empty, or whsec_ without base64, is refused without being told."""
    with pytest.raises(ValueError, match="must ") as caught:
        signing_key(secret)
    assert "not base64" not in str(caught.value)


@given(st.text(max_size=50), keys, st.floats(0, 4e9), bodies)
def test_headers(name: str, key: bytes, now: float, body: bytes) -> None:
    """Each attempt has the id, its own time in whole seconds, and a signature over both and the body."""
    headers = Webhook(name, key).headers(now, body)
    assert set(headers) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert headers["webhook-timestamp"] == str(int(now))
    signed = f"{headers['webhook-id']}.{int(now)}.".encode() + body
    expected = hmac.new(key, signed, sha256).digest()
    assert headers["webhook-signature"] == "v1," + b64encode(expected).decode()


@given(st.text(max_size=50))
def test_id_in_a_header(name: str) -> None:
    """An id that a header can't hold is percent-encoded, so that it stays another than all others."""
    webhook_id = Webhook(name).id
    assert unquote(webhook_id) == name
    assert all(0x21 <= ord(char) <= 0x7E for char in webhook_id)


def test_id_of_vumi_stays() -> None:
    """The ids that vumi makes, and any in plain ASCII, are sent as they are."""
    for name in ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", "msg_1.2-3:4/5@host+~"):
        assert Webhook(name).headers(0, b"")["webhook-id"] == name


def test_lone_surrogate() -> None:
    """An id that isn't even Unicode, as JSON can smuggle one in, is still a header."""
    assert Webhook("a\ud800").id == "a%ED%A0%80"


def test_without_key() -> None:
    """Without a key there is no signature; the key is not in what may be logged."""
    assert set(Webhook("a").headers(5, b"")) == {"webhook-id", "webhook-timestamp"}
    assert "secret" not in repr(Webhook("a", b"secret"))


def test_documented_verification() -> None:
    """The code that the documentation gives to receivers knows a genuine request from a forged or an old one, also
    from one without headers or with other bytes in them."""
    page = (Path(__file__).parents[3] / "docs" / "clients-junebug.md").read_text("utf-8")
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "is_genuine" in block
    )
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(code, names)
    now, body = time.time(), b'{"a":1}'

    def is_genuine(headers: dict[str, str], body: bytes, secret: str = "key") -> bool:
        return bool(names["is_genuine"](headers, body, secret, now))

    headers = Webhook("id", b"key").headers(now, body)
    assert is_genuine(headers, body)
    assert is_genuine({name.title(): value for name, value in headers.items()}, body)
    assert is_genuine(headers | {"webhook-signature": "v1,AAAA " + headers["webhook-signature"]}, body)
    assert not is_genuine(headers, body + b" ")
    assert not is_genuine(headers, body, "other")
    assert not is_genuine(headers | {"webhook-id": "other"}, body)
    assert not is_genuine(Webhook("id", b"key").headers(now - 1000, body), body)
    assert not is_genuine({}, body)
    for name in headers:
        assert not is_genuine({key: value for key, value in headers.items() if key != name}, body)
        assert not is_genuine(headers | {name: "\xe9"}, body)


@pytest.mark.parametrize("count", [1, 2])
def test_the_library_verifies(count: int) -> None:
    """The Standard Webhooks library verifies our signatures, with one and with two secrets, and no forged ones."""
    secrets = [SECRET_PREFIX + b64encode(bytes([number]) * 24).decode() for number in range(1, count + 1)]
    webhook = Webhook("id", tuple(signing_key(secret) for secret in secrets))
    body = b'{"a":1}'
    headers = webhook.headers(time.time(), body)
    for secret in secrets:
        standardwebhooks.Webhook(secret).verify(body, headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(body + b" ", headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(b64encode(b"other").decode()).verify(body, headers)
