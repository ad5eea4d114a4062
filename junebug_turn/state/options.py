"""Options that every store of messages has."""

from __future__ import annotations

from attrs import frozen

from junebug_turn.config import types
from junebug_turn.config.option import option
from junebug_turn.config.types import DAY

SECONDS = types.seconds(10**9)
CACHE_TIMEOUT = 2.0
"""Seconds that an operation of a store may take, by default."""


@frozen(kw_only=True)
class StoreConfig:
    """Each store has a subclass with its own options."""

    timeout: float = option(SECONDS, "How long a message is kept.", DAY)
    store_event_info: bool = option(types.BOOLEAN, "Whether event URLs and tokens are kept.", True)


@frozen(kw_only=True)
class ExternalStoreConfig(StoreConfig):
    """Options of a store outside of this process."""

    cache_timeout: float = option(types.seconds(60), "How long an operation may take.", CACHE_TIMEOUT)
