"""Connections to host names, also to those that are names in a local network only."""

from __future__ import annotations

from twisted.internet.endpoints import HostnameEndpoint

from junebug_turn.addresses import is_local_name


class NameEndpoint(HostnameEndpoint):
    """Twisted's endpoint for a name or an address, without its refusal of names such as ``rapidpro_web``.

    An underscore has no place in IDNA, but it has in the names that Docker Compose gives to services, and every
    resolver takes it.
    """

    @staticmethod
    def _hostAsBytesAndText(host: bytes | str) -> tuple[bool, bytes, str]:
        if isinstance(host, str) and is_local_name(host):
            return False, host.encode("ascii"), host
        return HostnameEndpoint._hostAsBytesAndText(host)
