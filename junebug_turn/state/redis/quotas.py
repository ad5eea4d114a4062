"""Counts of calls in a Redis, by its own clock: ``junebug-turn:quotas:<quota>`` is a hash of slots.

Tested by tests/unit/state/test_quota_slots.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from junebug_turn.delivery.shared_quota import MARGIN
from junebug_turn.state.quota_slots import SLOTS
from junebug_turn.state.redis import scripts


class RedisQuotas:
    """Counts of calls which all processes with the same Redis and ``key_prefix`` have together.

    :param evaluate: runs a script: its text, the key, the arguments
    :param prefix: the beginning of the keys
    """

    def __init__(self, evaluate: Callable[..., Awaitable[Any]], prefix: str) -> None:
        self._evaluate = evaluate
        self._prefix = prefix

    async def take_calls(self, quota: str, calls: int, seconds: float, wanted: int) -> tuple[int, float]:
        key = f"{self._prefix}junebug-turn:quotas:{quota}"
        arguments = (calls, repr(seconds), wanted, SLOTS, repr(MARGIN))
        taken, wait = await self._evaluate(scripts.TAKE_CALLS, key, *arguments)
        return int(taken), float(wait)
