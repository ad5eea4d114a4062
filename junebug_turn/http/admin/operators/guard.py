"""The guard of the operators' address: it refuses what pages of other sites have a browser send."""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from twisted.web.resource import IResource, Resource

from junebug_turn.errors import Forbidden
from junebug_turn.http.rate_limit import RateLimit

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    # With "no-referrer" a browser would name no origin for the page's own forms.
    ("Referrer-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class Guard(Resource):
    """A resource that lets requests of programs and of its own pages through to ``inner``.

    A browser sends an operator's credentials with requests that another site's page makes.  So one that changes
    something must come from here, by ``Sec-Fetch-Site`` or else ``Origin``.  Without credentials the name in ``Host``
    must be no other site's, which its owner can have lead to a loopback address.

    :param open_to_all: whether nobody needs credentials
    """

    isLeaf = True

    def __init__(self, inner: IResource, rate_limit: RateLimit, *, open_to_all: bool) -> None:
        super().__init__()
        self._inner = inner
        self._rate_limit = rate_limit
        self._open_to_all = open_to_all

    def render(self, request: Any) -> Any:
        """Have the inner resource answer.

        :raises Forbidden: another site has made the request
        :raises RateLimited: there are too many requests
        """
        for name, value in HEADERS:
            request.setHeader(name, value)
        self._rate_limit.take()
        host = _header(request, b"host")
        if self._open_to_all and not _is_local_name(host):
            raise Forbidden(
                "without admin_auth this address answers to localhost and to IP addresses only, not to other names"
            )
        if request.method not in (b"GET", b"HEAD") and not _is_from_here(request, host):
            raise Forbidden("the request comes from a page of another site")
        return self._inner.render(request)


def _header(request: Any, name: bytes) -> str | None:
    values = request.requestHeaders.getRawHeaders(name)
    return values[0].decode("latin-1") if values else None


def _is_local_name(host: str | None) -> bool:
    if not host:
        return True  # no browser leaves it out
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or bool(ip_address(name))
    except ValueError:
        return False


def _is_from_here(request: Any, host: str | None) -> bool:
    site, origin = _header(request, b"sec-fetch-site"), _header(request, b"origin")
    if site is not None:
        return site in ("same-origin", "none")
    # Programs send neither.
    return origin is None or urlsplit(origin).netloc == host


class FormTokens:
    """The tokens in the page's forms, which no page of another site can read; each holds for one user's credentials."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)

    def token(self, request: Any) -> str:
        """Return the token of the user of a request."""
        credentials = b"\n".join(request.requestHeaders.getRawHeaders(b"authorization", []))
        return hmac.new(self._secret, credentials, sha256).hexdigest()

    def check(self, request: Any, given: bytes) -> None:
        """Check the token of a form.

        :raises Forbidden: it is another one, as after a restart of the daemon
        """
        if not hmac.compare_digest(self.token(request).encode("ascii"), given):
            raise Forbidden("the page is from before the daemon's start, or of another user: load it again")
