"""Places of deliveries whose attempts failed: a few of those that a queue has, so that others fare well.

Tested by tests/unit/delivery/test_deliverer.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FailedPlaces:
    """Places of deliveries that go on after a failed attempt, for each connector and kind.

    :param limit: how many there are; nearly twice as many while the circuit is asking, since the failures then say
        little about the messages
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def of(self, connector: str, kind: str) -> Iterator[Callable[[bool], bool]]:
        """Return a function for after a failure: whether the delivery may keep its place until it has succeeded."""
        key = connector, kind
        counted = False

        def may_go_on(asking: bool) -> bool:
            nonlocal counted
            limit = 2 * self._limit - 2 if asking else self._limit
            if not counted and self._taken[key] < max(1, limit):
                self._taken[key] += 1
                counted = True
            return counted

        try:
            yield may_go_on
        finally:
            self._taken[key] -= counted
