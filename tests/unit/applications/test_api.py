"""The part that the HTTP applications share, in an application of this test."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any, ClassVar

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred

from junebug_turn.applications import registry
from junebug_turn.applications.api import HttpApi, HttpApplication
from junebug_turn.applications.base import ApplicationOptions, ApplicationType, Services
from junebug_turn.applications.message_request import MessageRequest
from junebug_turn.config import types
from junebug_turn.config.option import mapping_option, option
from junebug_turn.http.deduplication import OnPublish
from junebug_turn.http.errors import envelope
from junebug_turn.http.json import read_json, write_json
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state.message_store import OutboundRecord
from tests.support.application_harness import Face, done, logged
from tests.support.http_harness import Response


@frozen(kw_only=True)
class LetterOptions(ApplicationOptions):
    path_option: ClassVar[str] = "letter_path"
    url_options: ClassVar[tuple[str, ...]] = ()
    store_option: ClassVar[str] = "letter_store"

    letter_path: str = option(types.PATH, "The path.", "/letters")
    letter_signed: bool = option(types.BOOLEAN, "Whether the endpoint counts requests.", False)
    letter_from: str | None = option(types.optional(types.FILLED), "The default from address.", None)
    letter_store_class: str = option(types.FILLED, "The store.", "memory")
    letter_store_config: Mapping[str, Any] = mapping_option("Its options.")


class LetterApi(HttpApi[LetterOptions, MessageRequest]):
    router = Router()

    def __init__(self, application: HttpApplication[LetterOptions, MessageRequest]) -> None:
        super().__init__(application, 60, signed=application.options.letter_signed)

    @router.route("/", methods=["POST"])
    def post(self, request: ApiRequest) -> Deferred[bytes]:
        body = request.content.read()
        if request.requestHeaders.hasHeader("signature"):
            self._rate_limit.take()
        sent = self._deduplication.run(sha256(body).digest(), partial(self._send, body))
        return sent.addCallback(lambda answer: write_json(request, 200, answer.decode()))

    async def _send(self, body: bytes, on_publish: OnPublish) -> bytes:
        request = MessageRequest(**read_json(body))
        return await self._application.send(request, lambda message: message.message_id.encode(), on_publish)


class LetterApplication(HttpApplication[LetterOptions, MessageRequest]):
    answer = staticmethod(envelope)

    def __init__(self, options: LetterOptions, services: Services) -> None:
        super().__init__(options, services, options.letter_from)
        self.resource = LetterApi(self).resource
        self.stored: list[str | None] = []

    async def _store_outbound(self, request: MessageRequest, message: Message) -> None:
        await self._store.store_outbound(OutboundRecord(message.message_id, message.to_addr))
        self.stored.append(message.content)

    async def handle_inbound(self, message: Message) -> None:
        with self._storing(message, "letter {message_id} on {connector} is lost: {error!s}"):
            await self._store.store_inbound(message)
        self.stored.append("delivered")

    async def handle_event(self, event: Event) -> None:
        self._warn(event, "{event_type} {event_id} of {message_id} on {connector}: {note}", note="odd")


TYPE = ApplicationType("letter", "the letters of a test", (), LetterOptions, LetterApplication)
BODY = b'{"content": "c", "to": "1", "from_addr": "2"}'


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "APPLICATION_TYPES", (*registry.APPLICATION_TYPES, TYPE))


def letters(**options: Any) -> Face:
    given = {"application": "letter", "connector_name": "letters", "http_bind": "127.0.0.1:8080"}
    return Face.of(TYPE, given, **options)


def kind_of(response: Response) -> tuple[int, str]:
    return response.status, response.body["result"]["errors"][0]["type"]


def test_order() -> None:
    """A message is stored before it is published; the answer comes with the broker's confirm."""
    face = letters()
    face.broker.confirming = False
    client = face.begin("POST", "/", BODY)
    (message,) = face.published
    assert face.application.stored == ["c"]
    assert not client.received
    face.broker.published[0].publication.confirmed.callback(None)
    assert client.response().body == message.message_id


def test_nothing_is_kept_while_it_waits() -> None:
    """A request that waits for the broker keeps neither its message nor the JSON that it was made of: a reference to
    any of it would keep thirty times the memory of its text."""

    class Kept(dict[str, Any]):
        """A dictionary that can be referred to weakly."""

    face = letters()
    face.broker.confirming = False
    data = Kept()
    gone = weakref.ref(data)
    request = MessageRequest(content="c", to="1", from_addr="2", channel_data=data)
    sending = Deferred.fromCoroutine(
        face.application.send(request, lambda message: message.message_id.encode(), lambda _: None)
    )
    del data, request
    gc.collect()
    assert not sending.called
    assert gone() is None
    face.broker.published[0].publication.confirmed.callback(None)
    assert sending.called


def test_store_fails() -> None:
    """A message that can't be stored is not published."""
    face = letters()
    face.break_store("store_outbound")
    assert kind_of(face.ask("POST", "/", BODY)) == (503, "CacheError")
    assert not face.published


def test_too_long() -> None:
    """Content over character_limit is refused before the store is asked."""
    face = letters(character_limit=2)
    face.break_store("fetch_inbound")
    response = face.ask("POST", "/", b'{"content": "ccc", "reply_to": "m"}')
    assert kind_of(response) == (400, "MessageTooLong")
    # Junebug's lowest limit takes an empty content only.
    face = letters(character_limit=0)
    assert kind_of(face.ask("POST", "/", BODY)) == (400, "MessageTooLong")


def test_reply() -> None:
    """A request that names a stored inbound message is a reply to it."""
    face = letters()
    inbound = Message(to_addr="8", from_addr="9", transport_name="t", transport_type="ussd")
    done(face.application.handle_inbound(inbound))
    face.ask("POST", "/", b'{"content": "c", "reply_to": "%s"}' % inbound.message_id.encode())
    (message,) = face.published
    assert (message.to_addr, message.in_reply_to) == ("9", inbound.message_id)
    assert (message.transport_name, message.transport_type) == ("t", "ussd")


def test_unknown_reply() -> None:
    """A request that names another message is refused, and nothing is published."""
    face = letters(letter_from="8110")
    response = face.ask("POST", "/", b'{"content": "c", "to": "1", "reply_to": "m"}')
    assert kind_of(response) == (400, "MessageNotFound")
    assert not face.published


def test_defaults() -> None:
    """A new message has the connector's name and transport type, and the default from address."""
    face = letters(letter_from="8110", transport_type="ussd")
    face.ask("POST", "/", b'{"content": "c", "to": "1"}')
    (message,) = face.published
    assert (message.from_addr, message.transport_name, message.transport_type) == ("8110", "letters", "ussd")


def test_request_timeout() -> None:
    """Without a confirm the request is answered after request_timeout."""
    face = letters(request_timeout=5)
    face.broker.confirming = False
    client = face.begin("POST", "/", BODY)
    face.clock.advance(5)
    assert kind_of(client.response()) == (503, "AmqpConnectionError")


def test_repeat() -> None:
    """A repeat has the answer of the first request, publishes nothing, and is counted."""
    face = letters()
    first, repeat = face.ask("POST", "/", BODY), face.ask("POST", "/", BODY)
    assert first.body == repeat.body
    assert len(face.published) == 1
    assert face.repeats == 1


def test_authentication() -> None:
    """All paths are behind api_auth."""
    face = letters(api_auth={"tokens": ["t0ken"]})
    assert kind_of(face.ask("POST", "/", BODY)) == (401, "Unauthorized")
    assert kind_of(face.ask("POST", "/nothing")) == (401, "Unauthorized")
    assert face.ask("POST", "/", BODY, Authorization="Token t0ken").status == 200


@pytest.mark.parametrize(("signed", "statuses"), [(False, [200, 429, 429]), (True, [200, 200, 429])])
def test_rate_limit(signed: bool, statuses: list[int]) -> None:
    """Requests are counted before the endpoint; by it where they are signed, so that a stranger's don't count."""
    face = letters(rate_limit=0.01, letter_signed=signed)
    signature = {"Signature": "s"} if signed else {}
    asked = [face.ask("POST", "/", BODY, **headers) for headers in ({}, signature, signature)]
    assert [response.status for response in asked] == statuses


def test_storing() -> None:
    """A message that can't be stored is delivered all the same, and a warning names it."""
    face = letters()
    face.break_store("store_inbound")
    message = Message(to_addr="8", from_addr="9", transport_name="t", transport_type="sms", message_id="m")
    assert logged(face.application.handle_inbound(message)) == ["letter m on letters is lost: away"]
    assert face.application.stored == ["delivered"]


def test_warning_about_an_event() -> None:
    """A warning about an event names the event and its message."""
    event = Event(user_message_id="m", event_type="ack", event_id="e")
    assert logged(letters().application.handle_event(event)) == ["ack e of m on letters: odd"]
