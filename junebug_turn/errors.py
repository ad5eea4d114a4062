"""The exceptions of this project.

A class is a kind of fault; its message is for the person at the other side, so it never carries a secret or a
traceback.  ``Passing`` faults may be over later and carry ``retry_after``; the others are permanent.  The HTTP answer
to each of them stands in ``http/errors.py``.
"""

from __future__ import annotations


class JunebugTurnError(Exception):
    """The base class of all exceptions of this project."""


class ConfigError(JunebugTurnError):
    """A configuration that can't be used; ``lines`` has a line for each fault, naming the key and its source."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class UnreadableMessage(JunebugTurnError):
    """An AMQP body that isn't a message or event of vumi; the text says what is wrong, not what it held."""


class JsonDecodeError(JunebugTurnError):
    """A request body that isn't strict JSON in UTF-8; the message says what is wrong and where."""


class InvalidBody(JunebugTurnError):
    """A field of a request's JSON that is missing, unknown or of a wrong type; the message names it.

    :ivar faults: each fault's message, with its path in the JSON Schema; empty where there is no schema
    """

    def __init__(self, message: str, faults: tuple[tuple[str, tuple[str | int, ...]], ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class ApiUsageError(JunebugTurnError):
    """Fields of a request that are right each, but not together."""


class MessageTooLong(JunebugTurnError):
    """A message content that is longer than ``character_limit``."""


class MessageNotFound(JunebugTurnError):
    """A ``reply_to`` with an inbound message that isn't (or is no longer) known."""


class IdempotencyKeyReused(JunebugTurnError):
    """A repeated ``Idempotency-Key`` with another body."""


class Unauthorized(JunebugTurnError):
    """A missing or wrong signature, or missing or wrong credentials; ``challenge`` names the accepted schemes."""

    def __init__(self, message: str, challenge: str | None = None) -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(JunebugTurnError):
    """A request that a page of another site has made a browser send."""


class NotFound(JunebugTurnError):
    """A path without a resource."""


class ChannelNotFound(NotFound):
    """A path of a channel that is not configured."""


class RouterNotFound(NotFound):
    """A router that is not there."""


class DestinationNotFound(NotFound):
    """A destination that its router doesn't have."""


class ChannelConfigured(JunebugTurnError):
    """A change by the API of a channel that a file configures; the message names the file."""


class QueuesRefused(JunebugTurnError):
    """A channel or router that lacks queues, since the broker refuses them."""


class InvalidChannelType(JunebugTurnError):
    """A type of channel that is not known."""


class InvalidRouterType(JunebugTurnError):
    """A type of router that is not known."""


class InvalidRouterConfig(JunebugTurnError):
    """A ``config`` that a router of its type can't have."""


class InvalidRouterDestinationConfig(JunebugTurnError):
    """A ``config`` that a destination of its router can't have."""


class MethodNotAllowed(JunebugTurnError):
    """A method that the path doesn't have; ``allowed`` has the names of those that it has."""

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class BodyTooLarge(JunebugTurnError):
    """A body over the size limit, as it came or decompressed."""


class MessageTooLarge(JunebugTurnError):
    """A message over the broker's ``max_message_size``."""


class UnsupportedEncoding(JunebugTurnError):
    """A body with a content encoding that isn't read here; the message names it."""


class DamagedBody(JunebugTurnError):
    """A compressed body that can't be decompressed."""


class BadRequest(JunebugTurnError):
    """Bytes that aren't an HTTP request."""


class HeadersTooLarge(JunebugTurnError):
    """Request headers that are too many, or too large."""


class RequestTimeout(JunebugTurnError):
    """A request that took too long to arrive."""


class Passing(JunebugTurnError):
    """A fault that may be over when the client tries again, after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AmqpConnectionError(Passing):
    """A broker that is not connected, or did not confirm in time."""


class NotAnsweredInTime(Passing):
    """A request that takes long, of a client that may have gone."""


class ShuttingDown(Passing):
    """A request to a daemon that is about to stop."""


class TooManyConnections(Passing):
    """A connection over the limits of open connections."""


class RateLimited(Passing):
    """A request over ``rate_limit``."""


class Unroutable(Passing):
    """A message that the broker returned, since it has no queue for it."""


class ChangedMeanwhile(Passing):
    """A change of a definition that another one came before."""


class CacheError(Passing):
    """A cache that can't store or read now: not connected, slow, full or damaged."""


class UnreadableEntry(JunebugTurnError):
    """A cache entry that can't have been written by this project."""


FAILURE_REASONS = (
    "http_status",
    "timeout",
    "connection",
    "dns",
    "tls",
    "proxy",
    "bad_url",
    "forbidden_address",
    "circuit_open",
    "bulkhead_full",
    "rate_limited",
)
"""Why a delivery is given up or put off: the words of ``DeliveryFailed.reason``."""


class DeliveryFailed(JunebugTurnError):
    """An HTTP delivery that was given up.

    :ivar reason: one of ``FAILURE_REASONS``, for headers and metrics
    :ivar last_status: the last HTTP status, None without any answer
    :ivar attempts: the number of attempts
    :ivar first_failure: when the first one failed, in Unix seconds
    :ivar last_failure: when the last one failed, in Unix seconds
    :ivar last_error: the destination's own words about it, safe to log; empty: none
    :ivar destination: the origin that it was for; empty: none
    :ivar soon: how many for that destination may come back soon, so that its places are used, or it is asked again
    """

    destination = ""

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        last_status: int | None,
        attempts: int,
        first_failure: float,
        last_failure: float,
        last_error: str = "",
        soon: int = 0,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.last_status = last_status
        self.attempts = attempts
        self.first_failure = first_failure
        self.last_failure = last_failure
        self.last_error = last_error
        self.soon = soon


class DeliveryRefused(DeliveryFailed):
    """A permanent refusal by the destination: the same request would get the same answer."""


class DeliveryExhausted(DeliveryFailed):
    """A delivery whose attempts all met a passing fault."""


class DeliveryDeferred(DeliveryExhausted):
    """A delivery that was put off for a reason that says nothing about its message.

    Either its destination is known to be down, with the reason ``circuit_open`` or that of its last attempt; or those
    to clients' URLs have all of their places (``bulkhead_full``); or its turn within the destination's quota has not
    come (``rate_limited``).
    """
