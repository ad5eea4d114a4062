"""Address of a Redis server, from an option's URL."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from attrs import field, frozen

_FORMS = "redis://, rediss:// or unix://"


@frozen
class RedisAddress:
    """A Redis server, its database, and the credentials for it.

    :ivar host: empty for a socket file
    :ivar path: the socket file; None for a host
    """

    host: str
    port: int
    path: str | None
    tls: bool
    database: int
    username: str | None
    password: str | None = field(repr=False)

    @property
    def name(self) -> str:
        """The name for the log, without credentials."""
        return f"Redis at {self.path or f'{self.host}:{self.port}'}"

    @classmethod
    def from_url(cls, value: Any) -> RedisAddress:
        """Read ``redis://user:password@host:port/database``, ``rediss://`` the same for TLS, or
        ``unix://user:password@/path?db=database``; all but the host or the path may be left out.

        User, password and path are percent-decoded.

        :raises ValueError: the value is none of these; the text begins with "must" and holds nothing of the value
        """
        if not isinstance(value, str) or not value.isprintable() or " " in value:
            raise ValueError(f"must be a URL that begins with {_FORMS}")
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise ValueError(f"must be a URL that begins with {_FORMS}") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"must be a URL that begins with {_FORMS}")
        if parts.fragment:
            raise ValueError("must have no fragment; # in a password is %23")
        socket_file = parts.scheme == "unix"
        if socket_file:
            if parts.hostname or not parts.path.strip("/"):
                raise ValueError("must have an absolute path after unix://, as in unix:///run/redis.sock")
        elif not parts.hostname or port == 0:
            raise ValueError("must have a host")
        username, password = _decoded(parts.username), _decoded(parts.password)
        if username and not password:
            raise ValueError("must have a password where there is a user")
        return cls(
            host=parts.hostname or "",
            port=port or 6379,
            path=_decoded(parts.path) if socket_file else None,
            tls=parts.scheme == "rediss",
            database=_database("" if socket_file else parts.path, parts.query),
            username=username or None,
            password=password or None,
        )


def _decoded(text: str | None) -> str | None:
    try:
        return None if text is None else unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("must have percent-encoded UTF-8 as user, password and path") from None


def _database(path: str, query: str) -> int:
    """Return the number in ``/1`` or ``db=1``."""
    options = parse_qs(query, keep_blank_values=True)
    in_query = options.pop("db", [])
    if options or len(in_query) > 1:
        raise ValueError("must have no option but db after the ?")
    given = [text for text in (path.strip("/"), *in_query) if text]
    if len(given) > 1:
        raise ValueError("must have one database only")
    if given and not re.fullmatch("[0-9]{1,5}", given[0], re.ASCII):
        raise ValueError("must have a number as database")
    return int(given[0]) if given else 0
