"""Report of the effective configuration: every option's value and source, with secrets masked.

Also how a value or a name is quoted in the line of a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import attrs
from attrs import NOTHING, frozen

from junebug_turn.config.option import Option
from junebug_turn.config.scalars import Scalar, resolved

HIDDEN = "***"
DEFAULT = "default"

# The options of a middleware under these keys are no secrets.
OPEN = ("class_path", "enable_for_connectors", "forward_events")


@frozen
class Reported:
    """The value of one option.

    :ivar value: as the daemon uses it; ``NOTHING`` where it can't be used, or is missing
    :ivar source: the layer that it came from
    """

    option: Option
    value: Any = attrs.field(repr=False)
    source: str

    @property
    def shown(self) -> Any:
        """The value as ``json.dumps`` takes it, with ``***`` in place of secrets; None where there is none."""
        if self.value is NOTHING or self.value is None:
            return None
        if self.option.secret:
            return masked(self.value, is_url=self.option.type.is_url)
        show = self.option.type.shown
        return show(self.value) if show else plain(self.value)


Report: TypeAlias = dict[str, Reported]
"""Key, as ``amqp.hostname`` -> the value there."""


def plain(value: Any) -> Any:
    """A value as ``json.dumps`` takes it."""
    if isinstance(value, Scalar):
        value = resolved(value)
    if attrs.has(type(value)):
        value = attrs.asdict(value, recurse=False)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def masked(value: Any, *, is_url: bool = False) -> Any:
    """The same, with ``***`` for each text and number.

    :param is_url: whether it is a URL by its option's type: then its scheme, host and port are left.  A password may
        look like a URL, too.  In a mapping ``url``, and a key that ends in ``_url``, has one.
    """
    value = plain(value)
    if isinstance(value, dict):
        return {
            key: inner if key in OPEN else masked(inner, is_url=key == "url" or key.endswith("_url"))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [masked(inner, is_url=is_url) for inner in value]
    if value is None or value == "" or isinstance(value, bool):
        return value
    if is_url and isinstance(value, str):
        try:
            parts = urlsplit(value)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return HIDDEN
        if parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"{parts.scheme}://{host}{port}/{HIDDEN}"
    return HIDDEN


def show(value: object) -> str:
    """``value`` on one short line, as an operator wrote it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, Scalar):
        return str(value) if len(value) <= 80 else f"{value[:77]}..."
    if isinstance(value, str) and "://" in value:
        return "a URL"  # it may hold a password, also where none is wanted
    try:
        text = repr(value)
    except ValueError:  # Python writes no decimal number of thousands of digits
        return "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def show_name(name: object) -> str:
    """A key or a file's name, quoted only where it could be mistaken for something else."""
    return name if isinstance(name, str) and name.isprintable() and 0 < len(name) <= 250 else show(name)
