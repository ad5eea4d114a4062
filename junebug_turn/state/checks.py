"""The options of a cache, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from junebug_turn.errors import ConfigError

DAY = 24 * 60 * 60.0
CACHE_TIMEOUT = 2.0
"""Seconds that an operation of a cache may take, by default."""

Check = Callable[[Any], Any]
"""Returns the value as the cache takes it; raises ValueError with a text that begins with "must"."""


def seconds(value: Any) -> float:
    """A time to live."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 10**9:
        raise ValueError("must be a number of seconds, greater than 0 and at most 10**9")
    return value


def patience(value: Any) -> float:
    """The limit of one operation."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 60:
        raise ValueError("must be a number of seconds, greater than 0 and at most 60")
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError("must be a whole number greater than 0")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be text, without line ends and control characters")
    return value


def filled(value: Any) -> str:
    if not text(value).strip():
        raise ValueError("must not be empty")
    return str(value)


def read_options(
    config: Mapping[str, Any], option: str, checks: Mapping[str, Check], required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """``config``, checked.

    :param option: ``state_cache`` or ``message_cache``: what the options' names begin with
    :raises ConfigError: a line for each fault; no line holds a value, which may be a secret
    """
    lines = [f"{option}_config.{key}: required option" for key in required if key not in config]
    options = {}
    for key, value in config.items():
        if key not in checks:
            lines.append(f"{option}_config.{key}: unknown option; known are {', '.join(checks)}")
            continue
        try:
            options[key] = checks[key](value)
        except ValueError as error:
            lines.append(f"{option}_config.{key}: {error}")
    if lines:
        raise ConfigError(*lines)
    return options
