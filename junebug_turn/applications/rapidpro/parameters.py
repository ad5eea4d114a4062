"""Parameters of RapidPro's send request, which it writes into the URL, a form or JSON, as the channel is set up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from junebug_turn.errors import InvalidBody
from junebug_turn.http.forms import Form, read_form
from junebug_turn.http.json import read_json
from junebug_turn.messages import strictjson

_UNFILLED = re.compile(r"\{\{\s*\w+\s*\}\}")


class Parameters:
    """Parameters of one request; those of the URL win over those of the body.

    :param query: those of the URL
    :param body: those of the body: of a form, or the members of a JSON object
    """

    def __init__(self, query: Form, body: Form | dict[str, Any]) -> None:
        self._query = query
        self._body = body

    @classmethod
    def read(cls, query: Form, body: bytes, media_type: str, max_depth: int) -> Parameters:
        """Read the body: JSON by its media type, or where it begins as an object of JSON does; else a form.

        :raises JsonDecodeError: it isn't strict JSON
        :raises InvalidBody: it is JSON but no object, or has too many parameters
        """
        if not ("json" in media_type or body.lstrip()[:1] == b"{") or not body:
            return cls(query, read_form(body))
        value = read_json(body, max_depth)
        if not isinstance(value, dict):
            raise InvalidBody("the body must be a JSON object or a form")
        return cls(query, value)

    def text(self, name: str) -> str | None:
        """Return the first value of a parameter; None where it isn't there, or is null.

        :raises InvalidBody: it is no text
        """
        value = self._query[name] if name in self._query else self._body.get(name)
        if isinstance(value, list) and value and isinstance(value[0], bytes):
            value = _decoded(name, value[0])
        if value is not None and not isinstance(value, str):
            raise InvalidBody(f"'{name}' must be a text")
        return value

    def word(self, name: str) -> str:
        """Return such a value as RapidPro fills it in; empty where there is none.

        A version of RapidPro that doesn't know a variable leaves its name, in braces, in its place.

        :raises InvalidBody: it is no text
        """
        value = self.text(name) or ""
        return "" if _UNFILLED.fullmatch(value) else value

    def id(self, name: str) -> str:
        """Return such a value, which may also be a whole number in JSON.

        :raises InvalidBody: it is neither
        """
        value = self._body.get(name)
        if name not in self._query and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.word(name)

    def texts(self, *names: str) -> list[str]:
        """Return all values of the parameters of these names that aren't empty; one can be an array in JSON.

        :raises InvalidBody: one of them is no text
        """
        found: list[str] = []
        for name in names:
            value = self._query[name] if name in self._query else self._body.get(name)
            found += _texts(name, value)
        return [text for text in found if text.strip() and not _UNFILLED.fullmatch(text)]


def _texts(name: str, value: Any) -> Iterable[str]:
    if value is None:
        return
    for each in value if isinstance(value, list) else [value]:
        text = _decoded(name, each) if isinstance(each, bytes) else each
        if not isinstance(text, str):
            raise InvalidBody(f"'{name}' must be a text or an array of texts")
        array = _array(text) if isinstance(each, bytes) else None
        yield from [text] if array is None else array


def _array(text: str) -> list[str] | None:
    """Return the texts of an array in JSON, as a template in a URL or a form can have it; None for any other text."""
    if not text.startswith("["):
        return None
    try:
        value = strictjson.loads(text.encode("utf-8"))
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _decoded(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidBody(f"'{name}' must be a text in UTF-8") from None
