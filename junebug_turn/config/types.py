"""Value types of options that have no meaning of their own: texts, numbers, URLs, mappings.

A type with a meaning (an AMQP queue, an HTTP address) stands in the room that uses its values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv6Address
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs
from attrs import frozen

from junebug_turn.config import scalars

DAY = 86400


@frozen
class ValueType:
    """The type of an option's value.

    :ivar name: for the documentation and ``--help``
    :ivar read: converts a value from YAML, or a text, to the one that the daemon uses; it raises ValueError with a
        message that begins with "must" and never holds the value, which may be a secret
    :ivar from_yaml: whether an environment variable's or a flag's text is YAML; otherwise it is the value
    :ivar merged: whether the value is a mapping whose keys can come from several layers
    :ivar is_url: whether the value is a URL, of which a report shows more than of another secret
    :ivar shown: converts a value to the text that a report shows, where that isn't the value itself
    """

    name: str
    read: Callable[[Any], Any]
    from_yaml: bool = False
    merged: bool = False
    is_url: bool = False
    shown: Callable[[Any], str] | None = None


def text(value: Any) -> str:
    """``value``, if it is text in one line.

    :raises ValueError: it isn't
    """
    if not isinstance(value, str):
        raise ValueError("must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text in UTF-8") from None
    # Such a character would end a header, a log line or an error line early.
    if not value.isprintable():
        raise ValueError("must not have line ends or control characters")
    return str(value)


def filled(value: Any) -> str:
    """``value``, if it is text in one line, and not only spaces.

    :raises ValueError: it isn't
    """
    if not text(value).strip():
        raise ValueError("must not be empty")
    return str(value)


def _host(value: Any) -> str:
    host = filled(value)
    try:
        if not re.fullmatch(r"[\w.-]+", host):
            IPv6Address(host)
    except AddressValueError:
        raise ValueError("must be a host name or an address, without port or brackets") from None
    return host


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return str(value)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return [str(item) for item in value]


def _boolean(value: Any) -> bool:
    value = scalars.boolean(value)
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a mapping with texts as keys")
    return dict(value)


# Names of Python's logging, which existing configuration files carry.
_PYTHON_LEVELS = {"NOTSET": "DEBUG", "WARNING": "WARN", "FATAL": "CRITICAL"}


def _log_level(value: Any) -> str:
    level = value.upper() if isinstance(value, str) else ""
    level = _PYTHON_LEVELS.get(level, level)
    if level not in {"DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"}:
        raise ValueError("must be one of DEBUG, INFO, WARN, ERROR, CRITICAL")
    return level


def split_url(value: Any, *schemes: str) -> SplitResult:
    """The parts of a URL that has one of ``schemes`` and a host.

    :raises ValueError: it isn't one
    """
    url = filled(value)
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in schemes or " " in url:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"must be a URL that begins with {wanted} and has a host")
    return parts


def _url(value: Any) -> str:
    split_url(value, "http", "https")
    return str(value)


def _base_url(value: Any) -> str:
    if value == "":
        return ""
    parts = split_url(value, "http", "https")
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment, since paths are appended to it")
    return str(value).rstrip("/#?")


def _path(value: Any) -> str:
    """A URL path with a leading slash and without a trailing one; the root is the empty text."""
    path = text(value).strip("/")
    if re.search(r"[\s?#]", path) or "//" in path or {".", ".."} & set(path.split("/")):
        raise ValueError("must be a URL path: no white space, ?, #, // or dots alone")
    return f"/{path}" if path else ""


def whole(low: int | None = None, high: int | None = None) -> ValueType:
    """A whole number, from ``low`` to ``high`` where these are given."""
    wanted = "whole number" if low is None else f"whole number from {low} to {high}"

    def read(value: Any) -> int:
        value = scalars.number(value)
        fits = isinstance(value, int) and not isinstance(value, bool)
        if not fits or not (low is None or high is None or low <= value <= high):
            raise ValueError(f"must be a {wanted}")
        return int(value)

    return ValueType(wanted.replace(" from", ","), read, from_yaml=True)


def number(high: float) -> ValueType:
    """A number above 0 and up to ``high``."""

    def read(value: Any) -> float:
        value = scalars.number(value)
        # Also NaN fits no bounds.
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= high:
            raise ValueError(f"must be a number above 0 and at most {high:g}")
        return float(value)

    return ValueType(f"number, above 0 to {high:g}", read, from_yaml=True)


def seconds(high: float, *, zero: bool = False) -> ValueType:
    """A number of seconds up to ``high``; 0 only where it has a meaning."""
    low = "from 0" if zero else "above 0"

    def read(value: Any) -> float:
        value = scalars.number(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (0 < value <= high or (zero and value == 0)):
            raise ValueError(f"must be a number of seconds {low} and at most {high:.15g}")
        return float(value)

    return ValueType(f"seconds, {low} to {high:.15g}", read, from_yaml=True)


def choice(*words: str) -> ValueType:
    """One of ``words``, as they are written."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return ValueType("one of " + ", ".join(words), read)


def choices(*words: str) -> ValueType:
    """A list of some of ``words``, or of none."""

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item in words for item in value):
            raise ValueError(f"must be a list of words of these: {', '.join(words)}")
        return tuple(dict.fromkeys(value))

    return ValueType(f"list of some of {', '.join(words)}", read, from_yaml=True)


MAX_SECRETS = 10


def secrets(inner: ValueType) -> ValueType:
    """``inner``, or a tuple of several: a list, or a text with one in each line, as a file or a variable has them."""

    def read(value: Any) -> Any:
        if isinstance(value, str) and "\n" in value:
            value = value.splitlines()
        if not isinstance(value, list):
            return inner.read(value)
        if not 1 <= len(value) <= MAX_SECRETS:
            raise ValueError(f"must be one, or a list of 1 to {MAX_SECRETS}")
        return tuple(inner.read(each) for each in value)

    return attrs.evolve(inner, name=f"{inner.name} or list of texts", read=read)


def each(secret: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the values of an option of ``secrets``: none for None."""
    if secret is None or secret == "":
        return ()
    return secret if isinstance(secret, tuple) else (secret,)


def optional(inner: ValueType) -> ValueType:
    """``inner``, or None for null and for an empty text, which is how a variable is switched off."""

    def read(value: Any) -> Any:
        return None if value is None or value == "" else inner.read(value)

    return attrs.evolve(inner, read=read)


def nullable(inner: ValueType) -> ValueType:
    """``inner``, or None for null in YAML; an empty text is no such choice."""
    return attrs.evolve(inner, read=lambda value: None if value is None else inner.read(value))


TEXT = ValueType("text", text)
FILLED = ValueType("text", filled)
ANY = ValueType("anything", scalars.resolved)
ANY_TEXT = ValueType("text", _any_text)
TEXTS = ValueType("list of texts", _texts, from_yaml=True)
HOST = ValueType("host", _host)
BOOLEAN = ValueType("true or false", _boolean, from_yaml=True)
MAPPING = ValueType("mapping", _mapping, from_yaml=True, merged=True)
LOG_LEVEL = ValueType("DEBUG, INFO, WARN, ERROR or CRITICAL", _log_level)
URL = ValueType("URL", _url, is_url=True)
BASE_URL = ValueType("URL", _base_url, is_url=True)
PATH = ValueType("URL path", _path)
