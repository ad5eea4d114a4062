"""Bulkheads of all connectors and kinds.

Tested by tests/unit/delivery/test_bulkhead.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from junebug_turn.delivery.bulkhead import Bulkhead


class Bulkheads:
    """The bulkheads of all connectors and kinds.

    :param limit: the number of places of each
    :param recovered: see ``Bulkhead``
    """

    def __init__(self, clock: Any, limit: int, recovered: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._recovered = recovered
        self._limit = limit
        self._bulkheads: dict[tuple[str, str], Bulkhead] = {}
        self._shared: set[tuple[str, str]] = set()

    def of(self, connector: str, kind: str) -> Bulkhead:
        """Return the bulkhead of a connector and kind."""
        key = connector, kind
        bulkhead = self._bulkheads.get(key)
        if bulkhead is None:
            bulkhead = self._bulkheads[key] = Bulkhead(self._clock, self._limit, self._recovered)
            bulkhead.shared = key in self._shared
        return bulkhead

    def share(self, connector: str, kind: str) -> None:
        """Note that there are deliveries to configured URLs beside those to clients'."""
        key = connector, kind
        if key not in self._shared:
            self._shared.add(key)
            if key in self._bulkheads:
                self._bulkheads[key].shared = True
