"""An HTTP request to one of the APIs: the bound of its body, and the answer to each of its errors."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource

from junebug_turn.errors import BodyTooLarge, JunebugTurnError, NotFound
from junebug_turn.http.errors import INTERNAL, answer_for
from junebug_turn.http.json import write_json
from junebug_turn.http.mounts import Mount

SERVER = "junebug-turn"


class ApiRequest(server.Request):
    """A request to one of the APIs.

    Forms are not parsed (the APIs take JSON under any Content-Type, and a malformed form would be answered by
    Twisted itself), and a body over ``limits.max_body_size`` is refused while it arrives.

    :ivar mount: the mount of its path, once the request is processed or refused
    :ivar answering: the work on its answer, for ``give_up``
    """

    log = Logger()
    channel: Any
    content: Any
    site: Any
    mount: Mount

    answering: Deferred[None] | None = None
    given_up = False
    _received = 0

    def gotLength(self, length: int | None) -> None:
        """Take the length of the body, when the headers are complete; refuse a body that is too large."""
        self.content = BytesIO()
        if length is not None and length > self.channel.site.limits.max_body_size:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Store a part of the body; refuse a body that becomes too large."""
        if self.channel.closing:
            return
        self._received += len(data)
        if self._received > self.channel.site.limits.max_body_size:
            self._refuse_body()
        else:
            self.content.write(data)

    def take_body(self) -> bytes:
        """Return the body, and keep it no longer: its answer may take long."""
        body: bytes = self.content.getvalue()
        self.content = BytesIO()
        return body

    def _refuse_body(self) -> None:
        # A client that waits for "100 Continue" must not get it.
        self.requestHeaders.removeHeader(b"expect")
        most = self.channel.site.limits.max_body_size
        self.channel.refuse(BodyTooLarge(f"the body is larger than {most} bytes"))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Process the request, when its body is complete."""
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path = _path_of(path)
        self.args = {}
        self.process()

    def process(self) -> None:
        """Have the resource of the path answer."""
        self.site = self.channel.site
        self.setHeader(b"server", SERVER.encode("ascii"))
        self.setHeader(b"date", datetimeToString())
        self.mount, self.postpath = self.site.mounts.find(self.path)
        try:
            self.site.admit(self)
            _check_utf8(self.postpath)
            self.render(self.mount.resource)
        except Exception:
            self.processingFailed(Failure())

    def render(self, resrc: IResource) -> None:
        """Have a resource answer: with bytes now, or by itself later."""
        body = resrc.render(self)
        if body is not server.NOT_DONE_YET:
            self.write(body)
            self.finish()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer with an error."""
        self._write_error(reason)
        self.finish()
        return reason

    def give_up(self) -> None:
        """End the work on the answer, which is an error then."""
        self.given_up = True
        if self.answering is not None:
            self.answering.cancel()

    def refuse(self, error: JunebugTurnError, target: bytes) -> None:
        """Answer with an error before the request is complete; the connection must be closed after it.

        :param target: the target of its request line; empty where it isn't known
        """
        self.clientproto = b"HTTP/1.1"
        self.mount, _ = self.channel.site.mounts.find(_path_of(target))
        self._write_error(Failure(error), refused=True)

    def _write_error(self, reason: Failure, *, refused: bool = False) -> None:
        """Write the answer to an exception, in the form of the mount; no other place writes error answers.

        An exception without a row in the table of errors is a bug: it is logged, and its answer has no details.
        """
        answer = answer_for(reason.value)
        if answer is INTERNAL:
            self.log.failure("a request failed", failure=reason)
        status, value = self.mount.answer(answer)
        closing = (("Connection", "close"), ("Server", SERVER)) if refused else ()
        body = write_json(self, status, value, (*closing, *answer.headers))
        if refused:
            # Twisted has no phrase for some of the refusals.
            self.code_message = answer.phrase.encode("ascii")
        self.write(body)


def _path_of(target: bytes) -> bytes:
    """Return the path in the target of a request line, without its query.

    The target can be a whole URL, as proxies get it and as some clients send it to servers too (RFC 9112 section
    3.2.2).  Its host says nothing here, as that of a Host header.
    """
    path = target.partition(b"?")[0]
    if path[:1] != b"/":
        scheme, found, rest = path.partition(b"://")
        if found and scheme.lower() in (b"http", b"https"):
            return b"/" + rest.partition(b"/")[2]
    return path


def _check_utf8(segments: list[bytes]) -> None:
    try:
        b"/".join(segments).decode("utf-8")
    except UnicodeDecodeError:
        raise NotFound("the path is not UTF-8") from None
