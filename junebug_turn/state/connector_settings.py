"""Interface of a connector's settings: what an operator has set at run time, and a store keeps without expiry.

Tested by tests/unit/state/test_message_store.py.
"""

from __future__ import annotations

from typing import Any


class ConnectorSettings:
    """Settings of a connector in a store that keeps none: each is None, always.

    ``CacheError`` is raised where the store can't be written or read now.

    :cvar kept: whether they survive the process
    """

    kept: bool = False

    async def fetch(self, name: str) -> Any:
        """Return the JSON value of a setting; None where there is none."""
        return None

    async def store(self, name: str, value: Any) -> None:
        """Store the JSON value of a setting; None removes it."""
