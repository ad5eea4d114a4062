"""All options as people see them: their keys, flags and owners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from attrs import frozen

from junebug_turn.applications.base import APPLICATIONS
from junebug_turn.config import types
from junebug_turn.config.option import Option
from junebug_turn.config.types import optional
from junebug_turn.daemon.options import DaemonOptions

_VUMI2 = "vumi2.applications."
_CLASS_PATHS = [
    ("junebug", "junebug"),
    ("turn", "turn"),
    (_VUMI2 + "JunebugMessageApi", "junebug"),
    (_VUMI2 + "junebug_message_api.JunebugMessageApi", "junebug"),
    (_VUMI2 + "junebug_message_api.junebug_message_api.JunebugMessageApi", "junebug"),
    (_VUMI2 + "TurnChannelsApi", "turn"),
    (_VUMI2 + "turn_channels_api.TurnChannelsApi", "turn"),
    (_VUMI2 + "turn_channels_api.turn_channels_api.TurnChannelsApi", "turn"),
]

# What shapes the configuration but isn't itself a part of the settings.
SELECTORS: dict[str, Option] = {
    "amqp_url": Option(
        "The broker as a URL, amqp://user:password@host:port/vhost or amqps://...; it beats all of amqp.",
        optional(types.AMQP_URL),
        secret=True,
    ),
    "application": Option(
        "Which application runs; required, unless every one of applications says it.",
        types.chosen(_CLASS_PATHS, ("junebug", "turn")),
    ),
    "applications": Option(
        "Several applications, each with its own options over those of the top level.", types.MAPPINGS
    ),
}


@frozen
class Entry:
    """An option as people see it.

    :ivar path: its keys in the YAML file, outermost first
    :ivar owners: ``daemon`` or the names of the applications that have it
    :ivar default: ``NOTHING`` where it is required
    """

    path: tuple[str, ...]
    option: Option
    default: Any
    owners: tuple[str, ...]

    @property
    def key(self) -> str:
        """``amqp.hostname``"""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """``amqp-hostname``, without the dashes before it."""
        return "-".join(self.path).replace("_", "-")

    @property
    def name(self) -> str:
        """``amqp_hostname``, as ``config.load`` takes it."""
        return "_".join(self.path)


def entries(cls: type[Any], owner: str, parents: tuple[str, ...] = ()) -> Iterator[Entry]:
    """The options of one option class, those of its groups in their place."""
    for field in attrs.fields(cls):
        option: Option = field.metadata["option"]
        default = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory()
        if option.kind is types.GROUP:
            yield from entries(type(default), owner, (*parents, field.name))
        else:
            yield Entry((*parents, field.name), option, default, (owner,))


def all_entries() -> list[Entry]:
    """Every option there is: the daemon's, then those of one or more applications.

    An option that two applications have with different defaults or meanings stands there once for each.
    """
    found = [Entry((key,), option, None, ("daemon",)) for key, option in SELECTORS.items()]
    found += entries(DaemonOptions, "daemon")
    for name, cls in APPLICATIONS.items():
        for entry in entries(cls, name):
            for place, other in enumerate(found):
                if attrs.evolve(entry, owners=other.owners) == other:
                    found[place] = attrs.evolve(other, owners=(*other.owners, name))
                    break
            else:
                found.append(entry)
    return found
