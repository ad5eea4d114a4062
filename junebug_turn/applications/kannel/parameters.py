"""Parameters of sendsms: in the URL, in a form, or in Kannel's headers with the text as the body."""

from __future__ import annotations

from typing import Any, Self

from attrs import frozen

from junebug_turn.delivery.destination import FORM
from junebug_turn.errors import InvalidBody
from junebug_turn.http.content_encoding import decode
from junebug_turn.http.forms import Form, content_type_of, query_of, read_form

_HEADERS = {
    "username": b"X-Kannel-Username",
    "password": b"X-Kannel-Password",
    "from": b"X-Kannel-From",
    "to": b"X-Kannel-To",
    "coding": b"X-Kannel-Coding",
    "udh": b"X-Kannel-UDH",
    "dlr-mask": b"X-Kannel-DLR-Mask",
    "dlr-url": b"X-Kannel-DLR-URL",
    "priority": b"X-Kannel-Priority",
}

# With the coding that Kannel takes each for where the request gives none.
_TEXT_TYPES = {"text/plain": b"0", "application/octet-stream": b"1"}


@frozen
class Parameters:
    """Parameters of one request, as bytes."""

    form: Form

    @classmethod
    def read(cls, request: Any) -> Self:
        """Read the parameters of an ``ApiRequest``.

        :raises InvalidBody: the body is of a content type that sendsms doesn't have, or there are too many parameters
        """
        form = query_of(request)
        body = decode(request, request.take_body())
        media_type, others = content_type_of(request)
        if media_type in _TEXT_TYPES:
            for name, header in _HEADERS.items():
                for value in request.requestHeaders.getRawHeaders(header, []):
                    form.setdefault(name, []).append(value.strip())
            form["text"] = [body]
            form.setdefault("coding", [_TEXT_TYPES[media_type]])
            if "charset" in others:
                form.setdefault("charset", [others["charset"].encode("latin-1")])
        elif media_type in ("", FORM):
            for name, values in read_form(body).items():
                form.setdefault(name, []).extend(values)
        elif body:
            raise InvalidBody("Invalid content-type")
        return cls(form)

    def first(self, *names: str) -> bytes:
        """Return the first value of the parameter with one of these names; empty where there is none."""
        return next((self.form[name][0] for name in names if name in self.form), b"")

    def text(self, *names: str) -> str:
        """Return such a value as text.

        :raises InvalidBody: it isn't UTF-8
        """
        try:
            return self.first(*names).decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidBody(f"{names[0]} is not UTF-8, rejected") from None

    def number(self, name: str, default: int = 0) -> int:
        """Return a whole number.

        :raises InvalidBody: it is none
        """
        value = self.first(name).strip()
        if not value:
            return default
        if not value.isdigit() or len(value) > 9:
            raise InvalidBody(f"{name} is no number, rejected")
        return int(value)
