"""An HTTP request to one of the APIs: the bound of its body, and the answer to each of its errors."""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.resource import IResource

from junebug_turn.errors import (
    BadRequest,
    BodyTooLarge,
    JunebugTurnError,
    NotFound,
    Unauthorized,
)
from junebug_turn.http.connection_limits import client_of
from junebug_turn.http.errors import INTERNAL, answer_for
from junebug_turn.http.json import write_json
from junebug_turn.http.mounts import Mount
from junebug_turn.http.text import write_text

SERVER = "junebug-turn"

MAX_SMALL_CHUNKS = 512
SMALL_CHUNK = 64
"""A chunked body of more chunks than that must have as many bytes in each of them, on average: reading a chunk costs as
much as reading some hundred bytes."""

LARGE = 8 * 1024
"""The size of a body, in bytes, from which a request has a turn of its own: reading 256 kB of JSON takes 10 ms."""


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
    _refusal: JunebugTurnError | None = None
    _chunked = False
    _chunks = 0
    _received = 0

    def gotLength(self, length: int | None) -> None:
        """Take the length of the body, when the headers are complete, and check them.

        What is refused then isn't read, and costs the connection.  Where there is no body, ``process`` has the error.
        """
        self.content = BytesIO()
        site = self.channel.site
        self.path = _path_of(self.channel.target)
        self.mount, self.postpath = site.mounts.find(self.path)
        self._chunked = length is None
        try:
            self.mount.authenticator.check(self.requestHeaders)
        except Unauthorized as error:
            self._refusal = error.with_traceback(None)
        if length == 0:
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif length is not None and length > site.limits.max_body_size:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Store a part of the body; refuse a body that becomes too large."""
        if self.channel.closing:
            return
        self._received += len(data)
        self._chunks += 1
        if self._chunked and self._chunks > MAX_SMALL_CHUNKS and self._received < self._chunks * SMALL_CHUNK:
            self._refuse(BadRequest("the body is sent in too many small chunks"))
        elif self._received > self.channel.site.limits.max_body_size:
            self._refuse_body()
        else:
            self.content.write(data)

    def take_body(self) -> bytes:
        """Return the body, and keep it no longer: its answer may take long."""
        body: bytes = self.content.getvalue()
        self.content = BytesIO()
        return body

    def _refuse_body(self) -> None:
        most = self.channel.site.limits.max_body_size
        self._refuse(BodyTooLarge(f"the body is larger than {most} bytes"))

    def _refuse(self, error: JunebugTurnError) -> None:
        # A client that waits for "100 Continue" must not get it.
        self.requestHeaders.removeHeader(b"expect")
        self.channel.refuse(error)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Process the request, when its body is complete."""
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.args = {}
        if self._received >= LARGE or self.requestHeaders.hasHeader(b"content-encoding"):
            self.channel.site.process_in_turn(self)
        else:
            self.process()

    def process(self) -> None:
        """Have the resource of the path answer, unless the client has gone before."""
        if self.channel is None:
            return
        self.site = self.channel.site
        self.setHeader(b"server", SERVER.encode("ascii"))
        self.setHeader(b"date", datetimeToString())
        try:
            self.site.admit(self)
            if self._refusal is not None:
                self.processingFailed(Failure(self._refusal))
                return
            if b"%" in self.path:
                _check_utf8(self.path)
            self.render(self.mount.resource)
        except Exception:
            self.processingFailed(Failure())

    def render(self, resrc: IResource) -> None:
        """Have a resource answer: with bytes now, or by itself later."""
        body = resrc.render(self)
        if body is not server.NOT_DONE_YET:
            self.write(body)
            self.finish()

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """Set the status and its phrase; Twisted has none for 422, 429 and 431."""
        if message is None and code not in RESPONSES:
            message = HTTPStatus(code).phrase.encode("ascii")
        super().setResponseCode(code, message)

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
        elif answer.status == HTTPStatus.UNAUTHORIZED:
            # The log sums these up: guesses are a line a minute, with their number.
            ApiRequest.log.warn(  # not of this request, which the log would keep
                "Refused a request to {connector} from {client}: {error}",
                connector=self.mount.connector or "the daemon",
                client=client_of(self.client) or "a socket file",
                error=answer.message,
            )
        status, value = self.mount.answer(answer)
        closing = (("Connection", "close"), ("Server", SERVER)) if refused else ()
        write = write_text if isinstance(value, bytes) else write_json
        body = write(self, status, value, (*closing, *answer.headers))
        self.write(body)
        if reason.value is not None:
            # Frames of its traceback and of its cause have the request with its body, and the failures of Deferreds.
            reason.value.__traceback__ = reason.value.__context__ = None


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


def _check_utf8(path: bytes) -> None:
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise NotFound("the path is not UTF-8") from None
