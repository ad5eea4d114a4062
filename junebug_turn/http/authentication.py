"""Who may use an API, and how often: credentials in a request's ``Authorization`` header, and a token bucket."""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

from junebug_turn.config.guard_types import Credentials
from junebug_turn.errors import RateLimited, Unauthorized

_REALM = 'realm="junebug-turn"'


def _digest(*parts: bytes) -> bytes:
    return sha256(b":".join(parts)).digest()


class Authenticator:
    """Checks requests against ``credentials``; without any it lets everybody in.

    Tokens come as ``Authorization: Token ...`` or ``Bearer ...``, users as ``Basic`` (RFC 7617, in UTF-8).  Each
    check compares digests with all entries: the time it takes tells neither which one was near nor how long
    one is.
    """

    def __init__(self, credentials: Credentials | None) -> None:
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
            challenges += [f'Basic {_REALM}, charset="UTF-8"'] if self._users else []
            self._challenge = ", ".join(challenges)

    def check(self, headers: Headers) -> None:
        """Let a request with these headers pass.

        :raises Unauthorized: it has no credentials, or none that are known
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


def _among(digest: bytes, known: list[bytes]) -> bool:
    """Whether ``digest`` is one of ``known``, in a time that depends on their number only."""
    found = False
    for other in known:
        found |= hmac.compare_digest(digest, other)
    return found


class RateLimit:
    """A bucket of tokens that fills at ``rate`` a second, to a second's worth (at least one); a request takes one.

    :param rate: None for no limit
    """

    def __init__(self, clock: IReactorTime, rate: float | None) -> None:
        self._clock = clock
        self._rate = rate
        self._capacity = max(1.0, rate or 0)
        self._tokens = self._capacity
        self._at = clock.seconds()

    def take(self) -> None:
        """Count a request.

        :raises RateLimited: there were too many; it says after how many seconds one more would not be
        """
        if self._rate is None:
            return
        now = self._clock.seconds()
        # A clock that was set back gives nothing, and takes nothing.
        self._tokens = min(self._capacity, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            raise RateLimited(f"more than {self._rate:g} requests a second", (1 - self._tokens) / self._rate)
        self._tokens -= 1


class Guarded(Resource):
    """Lets only those requests reach ``inner`` that ``check`` lets pass; all its routes are behind it.

    :param check: gets a request's headers; what it raises refuses the request
    :param refused: writes the answer for that, in the application's own form
    """

    isLeaf = True

    def __init__(
        self,
        inner: IResource,
        check: Callable[[Headers], None],
        refused: Callable[[IRequest, Failure], bytes],
    ) -> None:
        super().__init__()
        self._inner = inner
        self._check = check
        self._refused = refused

    def render(self, request: Any) -> Any:
        """Let the inner resource answer, or refuse."""
        try:
            self._check(request.requestHeaders)
        except Exception:
            return self._refused(request, Failure())
        return self._inner.render(request)
