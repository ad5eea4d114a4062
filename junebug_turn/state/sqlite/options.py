"""Options of the store in a SQLite file."""

from __future__ import annotations

from attrs import frozen

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.state.options import ExternalStoreConfig
from junebug_turn.state.sqlite.file import MAX_BYTES


@frozen(kw_only=True)
class SqliteConfig(ExternalStoreConfig):
    """Options of the store in a SQLite file."""

    path: str = option(types.FILLED, "The file; it and its folder are made where they are missing.")
    max_bytes: int = option(
        types.whole(1024**2, 10**14),
        "How large the file can be, in bytes; from 90 % on the oldest entries go first.",
        MAX_BYTES,
    )
