"""Parameters of requests in the form encoding: the query of a URL, and bodies like it."""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from junebug_turn.errors import InvalidBody

MAX_PARAMETERS = 1000
"""Parameters of one query or form; each costs time of its own, however short it is."""

Form: TypeAlias = dict[str, list[bytes]]
"""The values of each name, in their order.  They are bytes, since the charset can be another parameter."""


def read_form(data: bytes) -> Form:
    """Read ``application/x-www-form-urlencoded``, as the WHATWG's URL standard has it; nothing in it is malformed.

    :raises InvalidBody: it has more than ``MAX_PARAMETERS``
    """
    form: Form = {}
    try:
        # By way of Latin-1, which has a character for each byte.
        pairs = parse_qsl(
            data.decode("latin-1"),
            keep_blank_values=True,
            encoding="latin-1",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise InvalidBody(f"there are more than {MAX_PARAMETERS} parameters") from None
    for name, value in pairs:
        form.setdefault(name, []).append(value.encode("latin-1"))
    return form


def query_of(request: Any) -> Form:
    """Read the parameters in the URL of an ``ApiRequest``.

    :raises InvalidBody: there are too many
    """
    return read_form(request.uri.partition(b"?")[2])


def content_type_of(request: Any) -> tuple[str, dict[str, str]]:
    """Return the media type of a request's body in lower case, empty where there is none, and its parameters."""
    header = (request.requestHeaders.getRawHeaders(b"content-type") or [b""])[0]
    first, *others = header.decode("latin-1").split(";")
    pairs = (each.partition("=") for each in others)
    return first.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
