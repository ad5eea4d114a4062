"""Quota of a service, counted over any window of its length, as the receivers of the demo and the tests play it."""

from __future__ import annotations

import math
from collections import deque

from attrs import define, field


@define
class Quota:
    """So many calls within so many seconds.

    :ivar refused: the number of calls that were over it
    """

    calls: int
    seconds: float
    refused: int = field(default=0, init=False)
    _served: deque[float] = field(factory=deque, init=False)

    def call(self, now: float, wall: float) -> tuple[bool, dict[str, str]]:
        """Count a call; returns whether it is within the quota, and the headers of its answer.

        :param now: by the monotonic clock
        :param wall: the same in Unix seconds
        """
        while self._served and self._served[0] <= now - self.seconds:
            self._served.popleft()
        within = len(self._served) < self.calls
        if within:
            self._served.append(now)
        else:
            self.refused += 1
        left = math.ceil(self._served[0] + self.seconds - now)
        headers = {
            "X-Ratelimit-Bucket": "general",
            "X-Ratelimit-Limit": str(self.calls),
            "X-Ratelimit-Remaining": str(self.calls - len(self._served)),
            "X-Ratelimit-Reset": str(math.ceil(wall) + left),
        }
        return within, headers if within else headers | {"Retry-After": str(left)}
