"""Limit of the deliveries of one connector and kind that keep their places after a failed attempt.

Tested by tests/unit/delivery/test_deliverer.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FailedPlaces:
    """Places of the deliveries that have failed, and go on: more would take the places of those that fare well.

    :param limit: how many there are for one connector and kind
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failed: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def of_delivery(self, connector: str, kind: str) -> Iterator[Callable[[bool], bool]]:
        """Return a function for after a failure: whether the delivery may keep its place until it has succeeded.

        While the circuit is asking they may be more, nearly all, since then they say little about the message.
        """
        key = connector, kind
        counted = False

        def may_go_on(asking: bool) -> bool:
            nonlocal counted
            limit = 2 * self._limit - 2 if asking else self._limit
            if not counted and self._failed[key] < max(1, limit):
                self._failed[key] += 1
                counted = True
            return counted

        try:
            yield may_go_on
        finally:
            self._failed[key] -= counted
