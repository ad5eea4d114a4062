"""What is said of an option where it is declared: the metadata of an option class's field."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import NOTHING, frozen

from junebug_turn.config import types
from junebug_turn.config.types import Kind


@frozen
class Option:
    """What a field's metadata says of its option."""

    help: str
    kind: Kind
    secret: bool = False


def option(kind: Kind, help: str, default: Any = NOTHING, *, secret: bool = False) -> Any:
    """A field for one option; without ``default`` the option is required."""
    return attrs.field(default=default, repr=not secret, metadata={"option": Option(help, kind, secret)})


def mapping_option(help: str) -> Any:
    """A field for the options of something else.  It may hold a URL with a password."""
    return attrs.field(factory=dict, repr=False, metadata={"option": Option(help, types.MAPPING, True)})


def group_option(cls: type[Any], help: str) -> Any:
    """A field for an option class of its own."""
    return attrs.field(factory=cls, metadata={"option": Option(help, types.GROUP)})
