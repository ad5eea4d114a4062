"""The command line flags of the configuration: one table for the daemon and for the tools."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from attrs import NOTHING, frozen

from junebug_turn.config.option import Entry
from junebug_turn.config.secret_files import SUFFIX
from junebug_turn.daemon.settings import schema

CONFIG_HELP = (
    "The YAML file with the configuration. Without this flag: the file that JUNEBUG_TURN_CONFIG_FILE or "
    "VUMI_CONFIG_FILE names."
)


@frozen
class Flag:
    """A flag that takes the text of an option.

    :ivar name: without the dashes before it, such as ``amqp-hostname``
    :ivar owners: the parts of the program that have the option
    """

    name: str
    help: str
    owners: tuple[str, ...]


def flags() -> Iterator[Flag]:
    """Yield the flag of each option, and for each secret one more, with the file that the secret is in."""
    by_flag = sorted(schema().entries, key=lambda entry: entry.flag)
    for name, group in groupby(by_flag, key=lambda entry: entry.flag):
        # Several applications may have a variant of the option.
        entries = list(group)
        owners = tuple(dict.fromkeys(owner for entry in entries for owner in entry.owners))
        defaults = "; ".join(f"{' and '.join(entry.owners)}: {_default(entry)}" for entry in entries)
        meaning = " Or: ".join(dict.fromkeys(entry.option.help for entry in entries))
        yield Flag(name, f"{meaning} ({entries[0].option.type.name}; {defaults})", owners)
        if any(entry.option.secret for entry in entries):
            file = name + SUFFIX.replace("_", "-")
            yield Flag(file, f"The file that has the value of --{name}.", owners)


def _default(entry: Entry) -> str:
    if entry.default is NOTHING:
        return "required"
    if entry.default in (None, "", {}):
        return "none by default"
    text = str(entry.default).lower() if isinstance(entry.default, bool) else str(entry.default)
    return f"default {text}"
