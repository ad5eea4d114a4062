"""Authentication by credentials."""

from __future__ import annotations

from base64 import b64encode
from hmac import compare_digest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from junebug_turn.daemon.settings import load
from junebug_turn.errors import Unauthorized
from junebug_turn.http import authentication
from junebug_turn.http.authentication import Authenticator, Credentials
from tests.support.configurations import FLAGS, faults, only

CREDENTIALS = Credentials(("new-token", "old-token"), {"rapidpro": "pa:ss wörd", "other": "second"})


def basic(text: str) -> bytes:
    return b"Basic " + b64encode(text.encode())


def check(value: bytes | list[bytes], credentials: Credentials | None = CREDENTIALS) -> None:
    values = value if isinstance(value, list) else [value]
    Authenticator(credentials).check(Headers({b"Authorization": values} if values else {}))


def refusal(value: bytes | list[bytes], credentials: Credentials = CREDENTIALS) -> Unauthorized:
    with pytest.raises(Unauthorized) as caught:
        check(value, credentials)
    return caught.value


@pytest.mark.parametrize(
    "value",
    [
        b"Token new-token",
        b"Token old-token",
        b"Bearer new-token",
        b"bearer  old-token ",
        basic("rapidpro:pa:ss wörd"),
        basic("other:second"),
    ],
)
def test_known(value: bytes) -> None:
    """Each of several tokens, as Token or Bearer, and each of several users, as Basic, is let in."""
    check(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Token",
        b"Token ",
        b"new-token",
        b"Token new-token2",
        b"Token new-toke",
        b"Token NEW-TOKEN",
        b"Digest new-token",
        b"Basic new-token",
        b"Basic " + b64encode(b"new-token"),
        basic("rapidpro:"),
        basic("rapidpro"),
        basic("rapidpro:second"),
        basic(":pa:ss wörd"),
        basic("other:second") + b"!",
        b"Basic \xff\xfe",
        b"Token rapidpro:pa:ss w\xc3\xb6rd",
    ],
)
def test_unknown(value: bytes) -> None:
    """A wrong token, user, password or scheme is refused, and so is what can't be read."""
    assert "not known" in str(refusal(value))


def test_renewal() -> None:
    """New credentials take the place of the old ones; what is open stays open, and what is guarded stays guarded."""
    authenticator, everybody = Authenticator(CREDENTIALS), Authenticator(None)
    known, new = (Headers({b"Authorization": [b"Token " + token]}) for token in (b"new-token", b"newest"))
    authenticator.renew(None)
    authenticator.check(known)
    authenticator.renew(Credentials(tokens=("newest",)))
    authenticator.check(new)
    with pytest.raises(Unauthorized):
        authenticator.check(known)
    everybody.renew(CREDENTIALS)
    everybody.check(Headers())


def test_there_must_be_one() -> None:
    """No Authorization header, and more than one of them, is refused."""
    assert "no Authorization" in str(refusal([]))
    assert "more than one" in str(refusal([b"Token new-token", b"Token new-token"]))


def test_without_credentials() -> None:
    """Without the option everybody is let in."""
    check([], None)
    check(b"Token anything", None)


def test_challenge() -> None:
    """WWW-Authenticate has the schemes that would do."""
    assert refusal(b"x").challenge == (
        'Token realm="junebug-turn", Bearer realm="junebug-turn", Basic realm="junebug-turn", charset="UTF-8"'
    )
    only_users = refusal(b"x", Credentials((), {"a": "b"})).challenge
    assert only_users == 'Basic realm="junebug-turn", charset="UTF-8"'


def test_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All entries are compared, by digests of one length, also after one was found."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    monkeypatch.setattr(authentication.hmac, "compare_digest", compare)  # type: ignore[attr-defined]
    check(b"Token new-token")
    check(basic("rapidpro:pa:ss wörd"))
    refusal(b"Token x")
    assert compared == [(32, 32)] * 6


@given(st.binary(max_size=60))
def test_any_header(value: bytes) -> None:
    """Whatever the header holds, it is known or refused."""
    if value.strip().partition(b" ")[2].strip() not in (b"new-token", b"old-token"):
        refusal(value.replace(b"\r", b"").replace(b"\n", b""))


# The option


@pytest.mark.parametrize(
    ("name", "password", "known"),
    [
        (b"rapidpro", "pa:ss wörd".encode(), True),
        (b"other", b"second", True),
        (b"rapidpro", b"second", False),
        (b"new-token", b"", False),
        (b"", b"new-token", False),
        (b"\xff", b"\0", False),
        (b"", b"", False),
    ],
)
def test_user(name: bytes, password: bytes, known: bool) -> None:
    """A user and the password are known wherever a request has them; without credentials everybody is let in."""
    Authenticator(None).check_user(name, password)
    if known:
        Authenticator(CREDENTIALS).check_user(name, password)
    else:
        with pytest.raises(Unauthorized):
            Authenticator(CREDENTIALS).check_user(name, password)


def test_option() -> None:
    """api_auth has tokens, users or both; a repr and an error line hold none of them."""
    options = only(load({**FLAGS, "api_auth": "{tokens: [s3cret], users: {name: passw0rd}}"}, {}))
    assert options.api_auth == Credentials(("s3cret",), {"name": "passw0rd"})
    assert "s3cret" not in repr(options)
    assert "passw0rd" not in repr(options.api_auth)
    assert only(load(FLAGS, {"API_AUTH": ""})).api_auth is None


@pytest.mark.parametrize(
    "value",
    [
        "s3cret",
        "[s3cret]",
        "{}",
        "{tokens: []}",
        "{tokens: s3cret}",
        "{token: [s3cret]}",
        '{tokens: [""]}',
        '{tokens: [" s3cret"]}',
        "{tokens: [[12]]}",
        "{users: [s3cret]}",
        "{users: {name: [12]}}",
        '{users: {"a:b": s3cret}}',
        '{users: {"": s3cret}}',
        '{tokens: ["s3\\ncret"]}',
    ],
)
def test_wrong_option(value: str) -> None:
    """An api_auth that lets nobody in, or can't be meant so, is one error line without the secret."""
    (line,) = faults({**FLAGS, "api_auth": value})
    assert line.startswith("api_auth: must")
    assert "cret" not in line
