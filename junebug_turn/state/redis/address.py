"""Address of a Redis server, from an option's URL."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from attrs import field, frozen

from junebug_turn.config import hosts

_FORMS = "redis://, rediss://, redis+sentinel://, rediss+sentinel:// or unix://"


@frozen
class RedisAddress:
    """A Redis server, its database, and the credentials for it.

    :ivar host: empty for a socket file, and where Sentinel names it
    :ivar path: the socket file; None for a host
    """

    host: str
    port: int
    path: str | None
    tls: bool
    database: int
    username: str | None
    password: str | None = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name for the log, without credentials."""
        if self.sentinels:
            return f"Redis of Sentinel's service {self.service}"
        return f"Redis at {self.path or f'{self.host}:{self.port}'}"

    @classmethod
    def from_url(cls, value: Any) -> RedisAddress:
        """Read ``redis://user:password@host:port/database``, ``rediss://`` the same for TLS, or
        ``unix://user:password@/path?db=database``; all but the host or the path may be left out.

        ``redis+sentinel://user:password@host:port,host:port/service/database`` has the hosts of sentinels, and the
        credentials of the servers that they name; ``?sentinel_username=`` and ``?sentinel_password=`` are for the
        sentinels.  ``rediss+sentinel://`` is the same with TLS for both.

        User, password and path are percent-decoded.

        :raises ValueError: the value is none of these; the text begins with "must" and holds nothing of the value
        """
        if not isinstance(value, str) or not value.isprintable() or " " in value:
            raise ValueError(f"must be a URL that begins with {_FORMS}")
        if value.partition("://")[0] in ("redis+sentinel", "rediss+sentinel"):
            return cls._of_sentinels(value)
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

    @classmethod
    def _of_sentinels(cls, url: str) -> RedisAddress:
        first, more = hosts.first_host(url)
        try:
            parts = urlsplit(first)
        except ValueError:
            raise ValueError(f"must be a URL that begins with {_FORMS}") from None
        texts = [parts.netloc.rpartition("@")[2], *(more.split(",") if more is not None else ())]
        sentinels = [hosts.host_and_port(text) for text in texts]
        service, _, database = parts.path.strip("/").partition("/")
        service = _decoded(service) or ""
        if not service:
            raise ValueError("must have the name of Sentinel's service after the hosts, as in /mymaster")
        options = parse_qs(parts.query, keep_blank_values=True)
        logins = {name: options.pop(name, [""])[-1] or None for name in _LOGINS}
        if parts.fragment or options:
            raise ValueError(f"must have no option but {' and '.join(_LOGINS)} after the ?, and no fragment")
        return cls(
            host="",
            port=0,
            path=None,
            tls=parts.scheme.startswith("rediss"),
            database=_database(database, ""),
            username=_decoded(parts.username) or None,
            password=_decoded(parts.password) or None,
            sentinels=tuple((host, port or 26379) for host, port in sentinels),
            service=service,
            **logins,
        )


_LOGINS = ("sentinel_username", "sentinel_password")


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
