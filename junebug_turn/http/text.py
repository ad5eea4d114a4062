"""Answers in plain text, for an API that has no JSON."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.web.iweb import IRequest

from junebug_turn.http.json import write_body


def line_of_text(text: str) -> bytes:
    """Return the body of an answer: one line, whatever ``text`` has in it."""
    return " ".join(text.split()).encode("utf-8", "replace")


def write_text(request: IRequest, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Set the request's status and headers for ``body``, which is text in UTF-8, and return it."""
    write_body(request, status, body, headers)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    return body
