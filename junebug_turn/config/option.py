"""Options: how one is declared as a field of an attrs class, and how people see it as key, variable and flag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
from attrs import NOTHING, frozen

from junebug_turn.config.types import MAPPING, ValueType


@frozen
class Option:
    """The metadata of an option class's field.

    :ivar help: the option's meaning, for the documentation and ``--help``
    :ivar secret: whether the value is masked wherever it is shown
    :ivar variables: environment variables that other programs have for the same, and that mean it as well
    :ivar group: the option class whose options stand below this key; then nothing else is read at it
    """

    help: str
    type: ValueType
    secret: bool = False
    group: Any = None
    variables: tuple[str, ...] = ()


def option(
    type: ValueType,
    help: str,
    default: Any = NOTHING,
    *,
    secret: bool = False,
    variables: tuple[str, ...] = (),
) -> Any:
    """A field for one option; without ``default`` the option is required."""
    declared = Option(help, type, secret, variables=variables)
    return attrs.field(default=default, repr=not secret, metadata={"option": declared})


def mapping_option(help: str) -> Any:
    """A field for the options of something else.  It may hold a URL with a password."""
    return attrs.field(factory=dict, repr=False, metadata={"option": Option(help, MAPPING, secret=True)})


def group_option(cls: type[Any], help: str) -> Any:
    """A field for an option class of its own, all of whose options have defaults."""
    return attrs.field(factory=cls, metadata={"option": Option(help, MAPPING, group=cls)})


def declared(cls: type[Any]) -> Iterator[tuple[str, Option, Any]]:
    """Name, option and default of each option of an option class; the default of a required one is ``NOTHING``."""
    for field in attrs.fields(cls):
        default: Any = field.default
        factory = getattr(default, "factory", None)
        yield field.name, field.metadata["option"], factory() if factory else default


@frozen
class Entry:
    """An option as people see it.

    :ivar path: its keys in the YAML file, outermost first
    :ivar owners: the names of the parts of the program that have it
    :ivar default: ``NOTHING`` where it is required
    """

    path: tuple[str, ...]
    option: Option
    default: Any
    owners: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key in the report and in faults, such as ``amqp.hostname``."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """The command line flag without its dashes, such as ``amqp-hostname``."""
        return self.name.replace("_", "-")

    @property
    def name(self) -> str:
        """The name as a Python identifier, such as ``amqp_hostname``."""
        return "_".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable without the prefix, such as ``AMQP_HOSTNAME``."""
        return self.name.upper()


class Schema:
    """All options that a configuration can have.

    :ivar entries: the options, those of a group in its place; an option that two owners have with the same default
        and meaning stands here once
    :ivar keys: the keys at the top level
    :ivar groups: each key that has options below it, and their names
    :ivar mappings: the keys whose mappings are merged over the layers
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        found: list[Entry] = []
        for entry in entries:
            for place, other in enumerate(found):
                if entry.path == other.path and attrs.evolve(entry, owners=other.owners) == other:
                    found[place] = attrs.evolve(other, owners=other.owners + entry.owners)
                    break
            else:
                found.append(entry)
        self.entries = tuple(found)
        self.keys = frozenset(entry.path[0] for entry in found)
        self.groups: dict[str, set[str]] = {}
        for entry in found:
            if len(entry.path) > 1:
                self.groups.setdefault(entry.path[0], set()).add(entry.path[1])
        self.mappings = self.groups.keys() | {entry.name for entry in found if entry.option.type.merged}

    def of(self, owner: str) -> list[Entry]:
        """The options of one owner."""
        return [entry for entry in self.entries if owner in entry.owners]


def entries(cls: type[Any], owner: str, parents: tuple[str, ...] = ()) -> Iterator[Entry]:
    """The options of one option class, those of its groups in their place."""
    for name, option, default in declared(cls):
        if option.group is not None:
            yield from entries(option.group, owner, (*parents, name))
        else:
            yield Entry((*parents, name), option, default, (owner,))
