"""Every option of the daemon and of its applications: name, kind, default, and what it is for.

The classes are what the daemon is built from; their fields' metadata is what the configuration's layers, the
command line flags, ``docs/options.md`` and ``etc/junebug-turn.yaml`` are made from or held against.  A field
without default is a required option.  Secrets have no place in a ``repr``.
"""

from __future__ import annotations

from junebug_turn.options.applications import APPLICATIONS, ApplicationOptions, JunebugOptions, TurnOptions
from junebug_turn.options.daemon import AmqpOptions, DaemonOptions
from junebug_turn.options.entries import SELECTORS, Entry, all_entries, entries

__all__ = [
    "APPLICATIONS",
    "SELECTORS",
    "AmqpOptions",
    "ApplicationOptions",
    "DaemonOptions",
    "Entry",
    "JunebugOptions",
    "TurnOptions",
    "all_entries",
    "entries",
]
