"""The table of flags that the daemon and the tools have."""

from __future__ import annotations

from junebug_turn.daemon.flags import flags
from junebug_turn.daemon.settings import schema


def test_every_option() -> None:
    """Every option has a flag, and every secret one more, for a file."""
    names = [flag.name for flag in flags()]
    assert len(names) == len(set(names))
    assert {entry.flag for entry in schema().entries} <= set(names)
    assert {f"{entry.flag}-file" for entry in schema().entries if entry.option.secret} <= set(names)
