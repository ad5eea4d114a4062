"""The paths of an HTTP server: the resource that is mounted at each, and the form of its error answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from attrs import frozen
from twisted.web.resource import IResource, Resource

from junebug_turn.errors import ChannelNotFound, NotFound
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.errors import Answer, envelope

# RFC 3986 section 3.3: whatever else a path has is escaped.
_UNESCAPED = "/!$&'()*+,;=:@"
_OPEN = Authenticator(None)
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")


@frozen
class Mount:
    """A resource that has a path, with all paths below it.

    :ivar connector: the connector of its application, for the metrics; empty for a resource of the daemon
    :ivar authenticator: checks the headers of each request to it
    :ivar answer: returns the HTTP status and the JSON of an error, in the form of the resource's API; bytes are a line
        of plain text in place of JSON
    :ivar while_stopping: whether requests to it are answered also when no others are, while the daemon stops
    """

    resource: IResource
    connector: str = ""
    answer: Callable[[Answer], tuple[int, Any]] = envelope
    authenticator: Authenticator = _OPEN
    while_stopping: bool = False


class Mounts:
    """The mounts of one server.

    A path is compared as it is written.  It may have an escape only where a character can't stand in a path itself:
    otherwise ``/%6detrics`` would pass by the rules that a proxy has for ``/metrics``.

    :param mounts: path, as ``/channels/demo`` or the empty string -> mount
    """

    def __init__(self, mounts: Mapping[str, Mount]) -> None:
        self._mounts: dict[tuple[bytes, ...], Mount] = {}
        self._lengths: list[int] = []
        self._unknown = Mount(_UnknownPath())
        for path, mount in mounts.items():
            self.add(path, mount)

    def add(self, path: str, mount: Mount) -> None:
        """Mount a resource at a path from now on, in place of one that is there."""
        segments = _segments(path)
        self._mounts[segments] = mount
        if len(segments) not in self._lengths:
            self._lengths = sorted((*self._lengths, len(segments)), reverse=True)

    def remove(self, path: str) -> None:
        """Take the resource of a path away."""
        del self._mounts[_segments(path)]

    def find(self, path: bytes) -> tuple[Mount, list[bytes]]:
        """Return the mount with the longest prefix of a path, and the segments of the path below it, still escaped.

        :param path: the path of a request, percent-encoded, without its query
        """
        if b"%" in path:
            path = _ESCAPE.sub(lambda escape: escape[0].upper(), path)
        segments = path[1:].split(b"/")
        for length in self._lengths:
            mount = self._mounts.get(tuple(segments[:length]))
            if mount is not None:
                return mount, segments[length:]
        return self._unknown, segments


def _segments(path: str) -> tuple[bytes, ...]:
    return tuple(quote(path, _UNESCAPED).encode("ascii").split(b"/")[1:])


class _UnknownPath(Resource):
    """The resource of all paths without a mount."""

    isLeaf = True

    def render(self, request: Any) -> Any:
        """Answer 404.

        :raises NotFound: always
        """
        first, *others = (unquote(segment.decode("ascii")) for segment in request.postpath)
        if first == "channels" and others and others[0]:
            raise ChannelNotFound(f"there is no channel {others[0]} here")
        raise NotFound(f"there is nothing at /{'/'.join((first, *others))}")
