"""Destinations of deliveries: the URL in its form for the wire, the credentials and the headers."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Any, Self, cast
from urllib.parse import quote, unquote_to_bytes, urlsplit

from attrs import Factory, field, frozen
from hyperlink import EncodedURL
from twisted.web.http_headers import Headers

from junebug_turn import version
from junebug_turn.errors import DeliveryRefused
from junebug_turn.net.addresses import HostRules, ascii_name
from junebug_turn.net.clocks import WALL_CLOCK

MAX_KEPT = 1000
"""Destinations in the cache of ``Destination.of``: most messages bring a URL that was there before."""


def _user_agent() -> bytes:
    number = version()
    return b"junebug-turn" if number is None else b"junebug-turn/" + number.encode("ascii")


_USER_AGENT = _user_agent()

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class WireUrl(EncodedURL):
    """URL in the form that goes over the wire, made once.

    treq asks for this form at each request: hyperlink would put the host through IDNA each time, which is slow, and
    refuses IPv6 addresses and names with underscores.
    """

    _wire = ""

    @classmethod
    def of(cls, wire: str) -> Self:
        """The URL of this text, which is in ASCII and percent-encoded already."""
        url: Any = cls.from_text(wire)
        url._wire = wire
        return cast(Self, url)

    def to_uri(self) -> Self:
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._wire or super().to_text(with_password)


@frozen
class Destination:
    """Destination of a delivery, with its credentials; made by ``of``, once for a configured URL.

    :ivar url: in ASCII, without user, password and fragment; its query may hold secrets
    :ivar authorization: the value of the ``Authorization`` header
    :ivar origin: ``scheme://host:port``, safe to log
    :ivar rules: which hosts a client's URL may lead to; None for an operator's, which may lead anywhere
    :ivar content_type: of the body of a POST; None makes a GET, which has no body
    :ivar configured_url: the URL of the configuration; another one than ``url`` where each message has a URL of its
        own, made from it
    """

    url: str = field(repr=False)
    authorization: bytes | None = field(repr=False)
    origin: str
    rules: HostRules | None = field(default=None, repr=False)
    content_type: str | None = field(default=JSON, repr=False)
    configured_url: str = field(
        kw_only=True, repr=False, default=Factory(lambda self: self.url, takes_self=True)
    )
    wire_url: EncodedURL = field(
        init=False, repr=False, eq=False, default=Factory(lambda self: WireUrl.of(self.url), takes_self=True)
    )
    headers: Headers = field(init=False, repr=False, eq=False)

    @headers.default
    def _headers(self) -> Headers:
        headers = Headers({b"User-Agent": [_USER_AGENT]})
        if self.content_type is not None:
            headers.setRawHeaders(b"Content-Type", [self.content_type.encode("ascii")])
        # An agent that finds it missing copies the headers for each request.
        headers.setRawHeaders(b"Host", [self._host_header()])
        if self.authorization is not None:
            headers.setRawHeaders(b"Authorization", [self.authorization])
        return headers

    def _host_header(self) -> bytes:
        scheme, _, netloc = self.origin.partition("://")
        return netloc.removesuffix(":443" if scheme == "https" else ":80").encode("ascii")

    @property
    def method(self) -> str:
        return "GET" if self.content_type is None else "POST"

    @classmethod
    @lru_cache(MAX_KEPT)
    def of(
        cls,
        url: str,
        token: str | None,
        scheme: str = "Token",
        *,
        rules: HostRules | None = None,
        content_type: str | None = JSON,
    ) -> Self:
        """Return the destination that ``url`` names; it is kept, since the URL of one message is that of many others.

        :raises DeliveryRefused: see ``parse``
        """
        return cls.parse(url, token, scheme, rules=rules, content_type=content_type)

    @classmethod
    def parse(
        cls,
        url: str,
        token: str | None = None,
        scheme: str = "Token",
        *,
        rules: HostRules | None = None,
        content_type: str | None = JSON,
        configured_url: str | None = None,
    ) -> Self:
        """Make the destination that ``url`` names; this alone is for a URL that only one message has.

        User and password in the URL are for Basic authentication and win over ``token``, which is sent as
        ``<scheme> <token>``.

        :raises DeliveryRefused: with reason ``bad_url``, after no attempt: not http or https, no host, or no
            URL at all; the message says why, without the URL.  With reason ``forbidden_address``:
            the rules refuse its host
        """
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
            # Percent-encoded characters stay so; others that may not stand there are encoded.
            path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
            query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
            user, password = unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or "")
            authorization = f"{scheme} {token}".encode() if token else None
        except ValueError:
            # The library's own words quote the URL, and with it perhaps a password.
            raise _bad_url("it can't be read") from None
        if parts.scheme not in ("http", "https"):
            raise _bad_url("its scheme is neither http nor https")
        if port == 0:
            raise _bad_url("its port is 0")
        host = _wire_host(host)
        why = rules.refuses(host) if rules is not None else None
        if why:
            raise _bad_url(why, "forbidden_address")
        if user or password:
            authorization = b"Basic " + b64encode(user + b":" + password)
        origin = f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"
        netloc = host if port is None else f"{host}:{port}"
        wire = f"{parts.scheme}://{netloc}{path}" + (f"?{query}" if query else "")
        return cls(wire, authorization, origin, rules, content_type, configured_url=configured_url or wire)


def _wire_host(host: str | None) -> str:
    """Return ``host`` in ASCII: an IPv6 address in brackets, a name as ``ascii_name`` has it."""
    if not host:
        raise _bad_url("it has no host")
    try:
        if ":" in host and "%" not in host:
            return f"[{IPv6Address(host)}]"
        return ascii_name(host)
    except (AddressValueError, UnicodeError):
        raise _bad_url("its host is no valid name or address") from None


def no_url(option: str) -> DeliveryRefused:
    """Return the refusal of a delivery for which this option, which is empty, would have the URL."""
    return _bad_url(f"{option} is empty")


def _bad_url(what: str, reason: str = "bad_url") -> DeliveryRefused:
    now = WALL_CLOCK.now()
    return DeliveryRefused(
        f"the URL can't be used: {what}",
        reason=reason,
        last_status=None,
        attempts=0,
        first_failure=now,
        last_failure=now,
    )
