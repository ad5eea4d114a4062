"""The part that all HTTP applications share: an API's resource and deduplication, and the order in which a message is
checked, stored and published."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import IResource

from junebug_turn.applications.base import ApplicationOptions, Services
from junebug_turn.applications.forwarding import Forwarder
from junebug_turn.applications.message_request import MessageRequest
from junebug_turn.delivery.refusal_text import RefusalReader
from junebug_turn.errors import CacheError, MessageNotFound, UnreadableEntry
from junebug_turn.http.deduplication import MAX_RESULTS, Deduplication, OnPublish, Start
from junebug_turn.http.json import within
from junebug_turn.http.rate_limit import LimitedResource, RateLimit
from junebug_turn.http.routing import Router
from junebug_turn.http.shared_results import SharedResults
from junebug_turn.messages.vumi import Event, Message, check_length
from junebug_turn.state.journal import MAX_ID, NOT_FORWARDED
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.telemetry.context import about
from junebug_turn.telemetry.tracing import current, resume

_Options = TypeVar("_Options", bound=ApplicationOptions)
_Request = TypeVar("_Request", bound=MessageRequest)


class HttpApplication(ABC, Generic[_Options, _Request]):
    """Base of the applications with an HTTP API: one channel, between its connector and its HTTP peers.

    :param default_from_addr: the from address of new messages whose requests give none
    :param read_refusal: reads the words of a destination from the body of its refusal
    :ivar unknown_events: the number of events that were not forwarded, since their messages were not known (any more)
    """

    log = Logger()
    resource: IResource
    _require_from = True

    def __init__(
        self,
        options: _Options,
        services: Services,
        default_from_addr: str | None,
        read_refusal: RefusalReader | None = None,
    ) -> None:
        self.options = options
        self.services = services
        self._default_from_addr = default_from_addr
        self._store = services.store
        self._forwarder = Forwarder(
            options, services.deliverer, services.journal, read_refusal, services.store.quotas()
        )
        self.unknown_events = 0

    async def send(
        self, request: _Request, answer: Callable[[Message], bytes], on_publish: OnPublish
    ) -> bytes:
        """Publish an outbound message; returns the answer to its request once the broker has confirmed it.

        What its events and answers need is stored first, since they can come at once.  While it waits for the broker
        nothing of the request's JSON is kept, which can take thirty times the memory of its text.

        :param answer: makes the body of the answer
        :raises ApiUsageError: the request has no address to send from
        :raises InvalidBody: it asks for something that the options forbid
        :raises MessageTooLong: its content is over ``character_limit``
        :raises MessageNotFound: it replies to a message that isn't known
        :raises Passing: the broker or the store can't take it now; nothing was published
        """
        self._check(request)
        message = self._build(request, await self._replied_to(request))
        with about(connector=self.options.connector_name, message_id=message.message_id):
            await self._store_outbound(request, message)
            body = answer(message)
            publishing = self.services.connector.publish(message)
            del request, message
            on_publish(publishing)
            await publishing.confirmed
        self._sent()
        return body

    def renew(self, options: _Options) -> None:
        """Use the secrets of ``options``, which were read again, from now on; all else stays as it was."""
        self._forwarder.renew(options)

    def _sent(self) -> None:
        """Note that the broker has confirmed an outbound message."""

    def _check(self, request: _Request) -> None:
        """Check a request before the store is asked."""
        check_length(request.content, self.options.character_limit)

    async def _replied_to(self, request: _Request) -> Message | None:
        """Return the inbound message that a request answers, if it is known."""
        return None if request.reply_to is None else await self._store.fetch_inbound(request.reply_to)

    def _build(self, request: _Request, inbound: Message | None) -> Message:
        name, transport_type = self.options.connector_name, self.options.transport_type
        if inbound is not None:
            return request.as_reply(inbound, transport_name=name, transport_type=transport_type)
        if request.reply_to is not None and not self._sends_expired_reply(request):
            raise MessageNotFound(f"Inbound message with id {request.reply_to[:100]} not found")
        return request.as_new(
            default_from_addr=self._default_from_addr,
            transport_name=name,
            transport_type=transport_type,
            require_from=self._require_from,
        )

    def _sends_expired_reply(self, request: _Request) -> bool:
        """Return whether a reply to a message that isn't known is sent as a new message."""
        return False

    @abstractmethod
    def _store_outbound(self, request: _Request, message: Message) -> Awaitable[None]:
        """Store the data that the events of an outbound message, and the answers to it, need."""

    def _forwards(self, event: Event, kind: str) -> bool:
        """Return whether an event of this type, in a word of the API, is forwarded."""
        wanted = self.options.forward_events
        if wanted is None or kind in wanted:
            return True
        self._not_forwarded(event, "not in forward_events")
        self.log.debug("{event_type} {event_id} is not in forward_events", **_fields(event))
        return False

    async def _resume_answered(self, message: Message) -> None:
        """Go on with the trace of the outbound message that an inbound one answers, where it says which."""
        answered = None
        with suppress(CacheError, UnreadableEntry):
            if message.in_reply_to is not None and current() is None:
                answered = await self._store.fetch_outbound(message.in_reply_to)
        resume_trace(answered)

    def _not_forwarded(self, event: Event, reason: str) -> None:
        if self.services.journal is not None:
            details = {"event_id": event.event_id[:MAX_ID], "reason": reason}
            self.services.journal.note(event.user_message_id, NOT_FORWARDED, details)

    def _store_inbound(self, message: Message) -> Awaitable[None]:
        """Store as much of an inbound message as a reply to it needs."""
        kept = message if self._store.keeps_details else message.without_content()
        return self._store.store_inbound(kept)

    @contextmanager
    def _storing(self, item: Message | Event, text: str) -> Iterator[None]:
        """Go on where the store can't write now, since ``item`` is delivered all the same; log ``text``."""
        try:
            yield
        except CacheError as error:
            self._warn(item, text, error=error)

    def _warn_unknown(self, event: Event, reason: str = "or no longer") -> None:
        """Count and log an event whose message isn't known, so that it is not forwarded."""
        self.unknown_events += 1
        self._not_forwarded(event, "its message is not known")
        self._warn(
            event,
            "{event_type} {event_id} on {connector} is not forwarded: its message {message_id} is not known, "
            "{reason} ({count} of these since the start)",
            reason=reason,
            count=self.unknown_events,
        )

    def _warn(self, item: Message | Event, text: str, **fields: Any) -> None:
        """Log a warning about ``item``; ``text`` is a format of its fields."""
        if isinstance(item, Event):
            fields |= _fields(item)
        message_id = item.user_message_id if isinstance(item, Event) else item.message_id
        self.log.warn(text, message_id=message_id, connector=self.options.connector_name, **fields)


def resume_trace(outbound: OutboundRecord | None) -> None:
    """Go on with the trace of an outbound message."""
    resume(None if outbound is None else outbound.traceparent)


def _fields(event: Event) -> dict[str, Any]:
    return {"event_type": event.event_type, "event_id": event.event_id}


class HttpApi(Generic[_Options, _Request]):
    """Base of the HTTP APIs of applications; a subclass has the routes.

    :param window: the seconds in which a request is known as a repeat
    :param max_results: the most requests that are known
    :param until_answered: whether a request is known only until its client has the answer
    :param signed: whether the endpoints check a signature, and count requests for the rate limit after that
    :param timeout: the seconds until a request is answered, in place of ``request_timeout``
    :ivar resource: the routes, behind the rate limit
    """

    router: ClassVar[Router]

    def __init__(
        self,
        application: HttpApplication[_Options, _Request],
        window: float,
        *,
        max_results: int = MAX_RESULTS,
        until_answered: bool = False,
        signed: bool = False,
        timeout: float | None = None,
    ) -> None:
        options, services = application.options, application.services
        self._application = application
        self._options = options
        self._services = services
        self._rate_limit = RateLimit(services.clock, options.rate_limit)
        claims = services.store.claims()
        shared = (
            None
            if claims is None
            else SharedResults(services.clock, claims, window, until_answered=until_answered)
        )
        self._deduplication = Deduplication(
            services.clock,
            window,
            options.request_timeout if timeout is None else timeout,
            max_results=max_results,
            on_repeat=lambda: services.metrics.repeated(options.connector_name),
            shared=shared,
        )
        services.metrics.show_deduplication(options.connector_name, self._deduplication)
        routes = self.router.resource()
        self.resource: IResource = routes if signed else LimitedResource(routes, self._rate_limit)

    def _start(self, start: Start) -> Deferred[bytes]:
        """Send the message of a request, within ``request_timeout``; the result is the answer's body."""
        return within(self._options.request_timeout, self._services.clock, start(lambda _: None))
