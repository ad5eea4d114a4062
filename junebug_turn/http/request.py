"""An HTTP request that is answered in JSON whatever happens, and that never holds more than it may."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource

from junebug_turn.errors import INTERNAL, BodyTooLarge, answer_for
from junebug_turn.http.json import translate, write_json


def segments_of(path: bytes) -> list[bytes]:
    """The segments of a request's path, which has no query, decoded."""
    return [unquote_to_bytes(segment) for segment in path[1:].split(b"/")]


class ApiRequest(server.Request):
    """A request of one of the APIs.

    Forms are not parsed (the APIs take JSON under any Content-Type, and a malformed form would be answered by
    Twisted itself), and a body over ``limits.max_body_size`` is refused while it arrives.
    """

    log = Logger()
    channel: Any
    content: Any
    site: Any

    mount: Any  # what is at its path: a ``Mount``

    _received = 0

    def gotLength(self, length: int | None) -> None:
        """The headers are complete: refuse a body that is announced as too large."""
        self.content = BytesIO()
        if length is not None and length > self.channel.site.limits.max_body_size:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, unless that makes it too large."""
        if self.channel.over:
            return
        self._received += len(data)
        if self._received > self.channel.site.limits.max_body_size:
            self._refuse()
        else:
            self.content.write(data)

    def _refuse(self) -> None:
        # Whoever waits for "100 Continue" shall not get it.
        self.requestHeaders.removeHeader(b"expect")
        most = self.channel.site.limits.max_body_size
        self.channel.refuse(BodyTooLarge(f"the body is larger than {most} bytes"))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is complete: process the request."""
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.args = {}
        self.process()

    def process(self) -> None:
        """Hand the request to the site's root."""
        self.site = self.channel.site
        self.setHeader(b"server", b"junebug-turn")
        self.setHeader(b"date", datetimeToString())
        self.postpath = segments_of(self.path)
        self.mount, self.depth = self.site.find(self.postpath)
        try:
            self.site.admit(self)
            self.render(self.site.resource)
        except Exception:
            self.processingFailed(Failure())

    def render(self, resrc: IResource) -> None:
        """Let a resource answer: with bytes now, or later by itself."""
        body = resrc.render(self)
        if body is not server.NOT_DONE_YET:
            self.write(body)
            self.finish()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer an exception by the table of errors; one that is not in it is logged, and its answer says nothing."""
        answer = answer_for(translate(reason, self.path))
        if answer is INTERNAL:
            self.log.failure("a request failed", failure=reason)
        self.write(write_json(self, answer.status, self.mount.to_json(answer), answer.headers))
        self.finish()
        return reason
