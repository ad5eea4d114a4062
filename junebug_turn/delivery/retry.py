"""Retry policy of deliveries: which answers are passing, and the delays between attempts.

It is arithmetic only: the clock is in ``deliverer``, and HTTP in ``attempt``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from attrs import field, frozen
from attrs.validators import ge
from twisted.web.http import stringToDatetime

MAX_RETRY_AFTER = 300.0
"""The most seconds that a destination can make us wait by ``Retry-After``."""

CHAIN_LIMIT = 15 * 60.0
"""Seconds after which a chain starts no new attempt: RabbitMQ closes a consumer that holds a message for 30
minutes, and the last attempt's own time comes on top."""

ASKS = 3
"""Of the messages for a destination that doesn't answer so many come back soon, so that it is asked again."""

_PASSING = frozenset({408, 425, 429})
_MISCONFIGURED = frozenset({*range(300, 400), *range(401, 406), 407, 410, 421, 423, 426, 451})


@frozen
class RetryPolicy:
    """A chain of attempts: a first one, then at most ``max_retries`` more.

    Before further attempt ``n`` (0, 1, 2, …) comes a delay drawn evenly from [0, ``cap(n)``) seconds.

    :raises ValueError: a negative number
    """

    max_retries: int = field(default=3, validator=ge(0))
    delay_base: float = field(default=2, validator=ge(0))
    delay_exponent: float = field(default=2, validator=ge(0))

    def cap(self, n: int) -> float:
        """The bound of delay ``n``, in seconds: ``delay_base ** (n * delay_exponent)``."""
        try:
            return float(float(self.delay_base) ** (n * self.delay_exponent))
        except OverflowError:
            return sys.float_info.max

    def delay(self, n: int, rng: Callable[[], float]) -> float:
        """Delay ``n`` in seconds; ``rng`` gives numbers in [0, 1), as ``random.random`` does."""
        return rng() * self.cap(n)


def inbound_patience(transport_type: str | None, session_window: float) -> float:
    """Return the seconds that an inbound message may wait in place for a destination that is down.

    Nothing else could be delivered meanwhile: all inbound messages of a connector go to one destination.

    :param session_window: seconds that those of a session have
    """
    return session_window if transport_type == "ussd" else CHAIN_LIMIT


def is_passing(status: int) -> bool:
    """Whether the same request may get another answer than this HTTP status when it is made again."""
    return status >= 500 or status in _PASSING


def is_misconfiguration(status: int) -> bool:
    """Return whether this HTTP status blames the configured URL or credentials, not the message."""
    return status in _MISCONFIGURED


def retry_after(header: bytes | str | None, now: float) -> float | None:
    """Read the seconds that a ``Retry-After`` header asks for, within [0, ``MAX_RETRY_AFTER``].

    Reads both forms of RFC 9110, section 10.2.3: seconds, and the three kinds of HTTP date.

    :param now: Unix seconds, which a date is compared with
    :return: None where there is no header, or none that can be read
    """
    if header is None:
        return None
    text = header if isinstance(header, bytes) else header.encode("utf-8", "replace")
    text = text.strip(b" \t")
    if text.isdigit():
        # More digits than int() takes are still only "long".
        return MAX_RETRY_AFTER if len(text) > 9 else min(float(text), MAX_RETRY_AFTER)
    try:
        return min(max(0.0, float(stringToDatetime(text)) - now), MAX_RETRY_AFTER)
    except (ValueError, IndexError, OverflowError):
        return None
