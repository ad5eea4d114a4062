"""Authentication of an API's clients by the ``Authorization`` header."""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from attrs import Factory, field, frozen
from twisted.web.http_headers import Headers

from junebug_turn.config.types import FILLED, ValueType
from junebug_turn.errors import Unauthorized

_REALM = 'realm="junebug-turn"'


@frozen
class Credentials:
    """The clients that may use an API: ``tokens``, and the password of each of ``users``."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    users: Mapping[str, str] = field(default=Factory(dict), repr=False)


def _credentials(value: Any) -> Credentials:
    if not isinstance(value, dict) or not value or set(value) - {"tokens", "users"}:
        raise ValueError("must be a mapping with tokens, users or both")
    tokens = [] if value.get("tokens") is None else value["tokens"]
    users = {} if value.get("users") is None else value["users"]
    if not isinstance(tokens, list) or not isinstance(users, dict):
        raise ValueError("must have a list as tokens and a mapping of names to passwords as users")
    if not tokens and not users:
        raise ValueError("must have at least one token or user: nobody could use the API")
    try:
        texts = [FILLED.read(text) for text in (*tokens, *users, *users.values())]
    except ValueError as error:
        raise ValueError(f"{error} (each token, user name and password)") from None
    if any(text != text.strip() for text in texts):
        raise ValueError("must not have tokens, names or passwords that begin or end with a space")
    if any(":" in name for name in users):
        raise ValueError("must not have a colon in a user name, which Basic authentication can't carry")
    return Credentials(tuple(map(str, tokens)), {str(name): str(word) for name, word in users.items()})


CREDENTIALS = ValueType("mapping", _credentials, from_yaml=True)


def _digest(*parts: bytes) -> bytes:
    return sha256(b":".join(parts)).digest()


class Authenticator:
    """Authenticator of requests by tokens and users; without ``credentials`` it accepts every request.

    Tokens come as ``Authorization: Token ...`` or ``Bearer ...``, users as ``Basic`` (RFC 7617, in UTF-8).  Each
    check compares digests with all entries, so that its time shows neither which entry was similar nor the length of
    one.

    :param for_browsers: whether the scheme of users is the first one in a refusal: Chromium looks at no other
    """

    def __init__(self, credentials: Credentials | None, *, for_browsers: bool = False) -> None:
        self._for_browsers = for_browsers
        self._use(credentials)

    def renew(self, credentials: Credentials | None) -> None:
        """Accept these credentials from now on, and no others.

        An authenticator without credentials stays so, and the other way round: what is open can't be closed unnoticed,
        nor what is closed be opened.
        """
        if credentials is not None and self._credentials is not None:
            self._use(credentials)

    def _use(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._tokens: list[bytes] = []
        self._users: list[bytes] = []
        self._challenge = ""
        if credentials is not None:
            self._tokens = [_digest(token.encode()) for token in credentials.tokens]
            self._users = [
                _digest(name.encode(), password.encode()) for name, password in credentials.users.items()
            ]
            challenges = [f"Token {_REALM}", f"Bearer {_REALM}"] if self._tokens else []
            if self._users:
                basic = f'Basic {_REALM}, charset="UTF-8"'
                challenges.insert(0 if self._for_browsers else len(challenges), basic)
            self._challenge = ", ".join(challenges)

    def check(self, headers: Headers) -> None:
        """Check the headers of a request.

        :raises Unauthorized: they have no credentials, or none that are known
        """
        if self._credentials is None:
            return
        values = headers.getRawHeaders(b"Authorization", [])
        if len(values) != 1:
            wrong = "more than one Authorization header" if values else "no Authorization header"
            raise Unauthorized(f"the request has {wrong}", self._challenge)
        scheme, _, given = values[0].strip().partition(b" ")
        given = given.strip()
        known: list[bytes] = []
        if scheme.lower() in (b"token", b"bearer"):
            known = self._tokens
        elif scheme.lower() == b"basic":
            known = self._users
            try:
                given = b64decode(given, validate=True)
            except ValueError:
                known = []
        if not _among(_digest(given), known):
            raise Unauthorized("the credentials in the Authorization header are not known", self._challenge)

    def check_user(self, name: bytes, password: bytes) -> None:
        """Check a user's name and password, of an API whose requests have them elsewhere than in a header.

        :raises Unauthorized: they are not known
        """
        if self._credentials is not None and not _among(_digest(name, password), self._users):
            raise Unauthorized("the user and the password of the request are not known", self._challenge)


def _among(digest: bytes, known: list[bytes]) -> bool:
    """Return whether ``digest`` is one of ``known``, in a time that depends on their number only."""
    found = False
    for other in known:
        found |= hmac.compare_digest(digest, other)
    return found
