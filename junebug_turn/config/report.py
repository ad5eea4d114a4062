"""What the configuration became, for a person: each value with where it came from, and no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs import NOTHING, frozen

HIDDEN = "***"
DEFAULT = "default"

# What stands in the options of a middleware under these keys is no secret.
OPEN = ("class_path", "enable_for_connectors")


@frozen
class Told:
    """One value.

    :ivar application: which of the applications it is for, from 0; None: the daemon
    :ivar key: as ``amqp.hostname``
    :ivar value: as the daemon uses it; ``NOTHING`` where it can't be used, or is missing
    :ivar source: the layer that it came from
    """

    application: int | None
    key: str
    value: Any
    source: str
    secret: bool

    @property
    def shown(self) -> Any:
        """The value as JSON takes it, with ``***`` in place of what is secret; None where there is none."""
        if self.value is NOTHING:
            return None
        return masked(self.value) if self.secret else plain(self.value)


def plain(value: Any) -> Any:
    """A value as JSON takes it."""
    if attrs.has(type(value)):
        value = attrs.asdict(value, recurse=False)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def masked(value: Any) -> Any:
    """The same, with ``***`` for each text and number; of a URL its scheme, host and port are left."""
    value = plain(value)
    if isinstance(value, dict):
        return {key: inner if key in OPEN else masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    if value is None or value == "" or isinstance(value, bool):
        return value
    if isinstance(value, str) and "://" in value:
        try:
            parts = urlsplit(value)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return HIDDEN
        if parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"{parts.scheme}://{host}{port}/{HIDDEN}"
    return HIDDEN
