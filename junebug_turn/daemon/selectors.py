"""Options that shape the configuration but aren't themselves a part of the settings: which applications there are, and
the broker as a URL.

Tested by tests/unit/daemon/test_settings.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from junebug_turn.amqp.options import AMQP_URL
from junebug_turn.applications.base import ApplicationType
from junebug_turn.config.option import Option
from junebug_turn.config.types import ValueType, optional


def _application_type(types: tuple[ApplicationType, ...]) -> ValueType:
    """Return the value type of ``application``: a name, or a class path that existing files have for it."""
    names = {name: each for each in types for name in (each.name, *each.aliases)}
    shown = [each.name for each in types]

    def read(value: Any) -> ApplicationType:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"must be one of {', '.join(shown)}, or the class path of one of these")
        return names[value]

    return ValueType(f"{' or '.join(shown)}, or a class path", read, shown=lambda found: str(found.name))


def _mappings(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("must be a list of mappings, one for each application")
    return value


@cache
def selectors(types: tuple[ApplicationType, ...]) -> dict[str, Option]:
    """Return the options that shape the configuration but aren't themselves a part of the settings."""
    return {
        "amqp_url": Option(
            "The broker as a URL, amqp://user:password@host:port/vhost or amqps://... It replaces all amqp.* options "
            "except the certificate files and max_message_size.",
            optional(AMQP_URL),
            secret=True,
        ),
        "application": Option(
            "The application to run. Required, unless each entry of applications has its own.",
            _application_type(types),
        ),
        "applications": Option(
            "A list of applications. A value inside an entry wins over the same option at the top level.",
            ValueType("list of mappings", _mappings, from_yaml=True),
        ),
    }
