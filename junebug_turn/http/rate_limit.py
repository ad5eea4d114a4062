"""The rate limit of an API: a token bucket."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource, Resource

from junebug_turn.errors import RateLimited


class RateLimit:
    """A token bucket: each request takes a token, and ``rate`` tokens a second come back.

    The bucket holds the tokens of a second, at least one.

    :param rate: in requests a second; None for no limit
    """

    def __init__(self, clock: IReactorTime, rate: float | None) -> None:
        self._clock = clock
        self._rate = rate
        self._capacity = max(1.0, rate or 0)
        self._tokens = self._capacity
        self._at = clock.seconds()

    def take(self) -> None:
        """Take a token for a request.

        :raises RateLimited: there is none; ``retry_after`` is the time until there is one, in seconds
        """
        if self._rate is None:
            return
        now = self._clock.seconds()
        # A clock that was set back neither gives nor takes tokens.
        self._tokens = min(self._capacity, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            raise RateLimited(f"more than {self._rate:g} requests a second", (1 - self._tokens) / self._rate)
        self._tokens -= 1


class LimitedResource(Resource):
    """A resource whose requests count for a rate limit; those over it don't reach ``inner``."""

    isLeaf = True

    def __init__(self, inner: IResource, rate_limit: RateLimit) -> None:
        super().__init__()
        self._inner = inner
        self._rate_limit = rate_limit

    def render(self, request: Any) -> Any:
        """Have the inner resource answer.

        :raises RateLimited: there are too many requests
        """
        self._rate_limit.take()
        return self._inner.render(request)
