"""What guards both APIs, in the whole daemon on a real RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel

from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.messages.vumi import Event
from tests.integration.conftest import RunDaemon
from tests.integration.test_junebug import inbound
from tests.support.daemon import Answered, Running, running
from tests.support.middlewares import Mark
from tests.support.names import resolving
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

SECRET = "hmac-secret"
TOKEN = "a-token-of-the-api"
AUTH = {"tokens": [TOKEN], "users": {"rapidpro": "its-password"}}


@pytest_twisted.async_yield_fixture
async def junebug(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    """The daemon with one Junebug application, and the options of the test's marker."""
    async with run_daemon(
        "junebug",
        base_url_path="/jb",
        mo_message_url=receiver.url("/inbound"),
        default_from_addr="8110",
        retry_delay_base=0,
    ) as side:
        yield side


@pytest_twisted.async_yield_fixture
async def turn(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    """The daemon with one Turn application, and the options of the test's marker."""
    async with run_daemon(
        "turn",
        vumi_api_path="/turn",
        turn_api_url=receiver.url("/turn"),
        auth_token="token-for-turn",
        turn_hmac_secret=SECRET,
        default_from_addr="8110",
    ) as side:
        yield side


async def to_turn(side: Running, text: str = "hello", **headers: str) -> Answered:
    body = json.dumps({"to": "+27123", "turn": {"type": "text", "text": {"body": text}}}).encode()
    return await side.post(body, headers={HEADER: sign(SECRET.encode(), body).decode()} | headers)


def error_of(answer: Answered) -> Any:
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.body["result"]["errors"] if "result" in answer.body else answer.body["errors"]
    return error["type"]


@pytest.mark.options(limits_max_body_size=1000)
@pytest_twisted.ensureDeferred
async def test_turn_errors_before_routing(turn: Running) -> None:
    """A body that is too large, and a request to a daemon that is stopping, are refused in Turn's form."""
    answer = await turn.post(b"x" * 1001)
    assert (answer.status, answer.body["errors"][0]["type"]) == (413, "BodyTooLarge")
    assert list(answer.body) == ["errors"]
    for site in turn.daemon.sites.values():
        site.drain()
    answer = await to_turn(turn)
    assert (answer.status, answer.body["errors"][0]["type"]) == (503, "ShuttingDown")
    assert "retry-after" in answer.headers


@pytest.mark.options(api_auth=AUTH)
@pytest_twisted.ensureDeferred
async def test_api_auth_of_junebug(junebug: Running) -> None:
    """With api_auth a token or a user's password is needed; else it is a 401 in the envelope, with a challenge."""
    body = {"to": "1", "content": "c"}
    refused = await junebug.post(body)
    assert (refused.status, error_of(refused)) == (401, "Unauthorized")
    assert refused.body["status"] == 401
    assert refused.headers["www-authenticate"].startswith('Token realm="junebug-turn"')
    assert (await junebug.post(body, headers={"Authorization": f"Token {TOKEN}x"})).status == 401
    # A stranger is not even told which paths there are.
    assert (await junebug.request("GET", "/jb/nothing")).status == 401
    assert junebug.count("outbound") == 0
    assert (await junebug.post(body, headers={"Authorization": f"Token {TOKEN}"})).status == 201
    assert (await junebug.post(body, headers={"Authorization": f"Bearer {TOKEN}"})).status == 201
    assert (await junebug.post(body, auth=("rapidpro", "its-password"))).status == 201
    assert (await junebug.request("GET", "/health")).status == 200


@pytest.mark.options(api_auth=AUTH)
@pytest_twisted.ensureDeferred
async def test_api_auth_of_turn(turn: Running) -> None:
    """With api_auth a webhook needs the signature and the credentials; a 401 has the form of Turn's errors."""
    refused = await to_turn(turn)
    assert (refused.status, error_of(refused)) == (401, "Unauthorized")
    assert "basic" in refused.headers["www-authenticate"].lower()
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    assert (await to_turn(turn, **authorization, **{HEADER: "forged"})).status == 401
    assert (await to_turn(turn, **authorization)).status == 200


@pytest.mark.options(rate_limit=0.01)
@pytest_twisted.ensureDeferred
async def test_rate_limit_of_junebug(junebug: Running) -> None:
    """What is over rate_limit is a 429 in the envelope that says when to come again."""
    assert (await junebug.post({"to": "1", "content": "c"})).status == 201
    refused = await junebug.post({"to": "1", "content": "c"})
    assert (refused.status, error_of(refused)) == (429, "RateLimited")
    assert 90 <= int(refused.headers["retry-after"]) <= 100


@pytest.mark.options(rate_limit=0.01)
@pytest_twisted.ensureDeferred
async def test_rate_limit_of_turn(turn: Running) -> None:
    """Turn gets a 503, since a 4xx would be the message's end; webhooks with a forged signature don't count."""
    for _ in range(3):
        assert (await to_turn(turn, **{HEADER: "forged"})).status == 401
    assert (await to_turn(turn, "one")).status == 200
    refused = await to_turn(turn, "two")
    assert (refused.status, error_of(refused)) == (503, "RateLimited")
    assert 90 <= int(refused.headers["retry-after"]) <= 100


@pytest.mark.options(api_auth={"tokens": [TOKEN]}, rate_limit=0.01)
@pytest_twisted.ensureDeferred
async def test_strangers_take_nothing_of_the_rate(junebug: Running) -> None:
    """Requests without credentials don't count for rate_limit."""
    for _ in range(3):
        assert (await junebug.post({"to": "1", "content": "c"})).status == 401
    answer = await junebug.post({"to": "1", "content": "c"}, headers={"Authorization": f"Token {TOKEN}"})
    assert answer.status == 201


@pytest.mark.options(character_limit=5)
@pytest_twisted.ensureDeferred
async def test_character_limit_of_junebug(junebug: Running) -> None:
    """Content over character_limit is a 400 of type MessageTooLong whose message names both lengths."""
    refused = await junebug.post({"to": "1", "content": "sixsix"})
    assert (refused.status, error_of(refused)) == (400, "MessageTooLong")
    (error,) = refused.body["result"]["errors"]
    assert error["message"] == (
        "Message content is of length 6, which is greater than the character limit of 5"
    )
    assert junebug.count("outbound") == 0
    # Characters, not bytes.
    assert (await junebug.post({"to": "1", "content": "🐞" * 5})).status == 201
    assert (await junebug.post({"to": "1", "content": None})).status == 201


@pytest.mark.options(character_limit=5)
@pytest_twisted.ensureDeferred
async def test_character_limit_of_turn(turn: Running) -> None:
    """The Turn Channels API has the limit too."""
    refused = await to_turn(turn, "sixsix")
    assert (refused.status, error_of(refused)) == (400, "MessageTooLong")
    assert (await to_turn(turn, "fivee")).status == 200


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "[::ffff:169.254.169.254]", "[fe80::1]"])
@pytest_twisted.ensureDeferred
async def test_event_url_to_a_forbidden_address(junebug: Running, host: str) -> None:
    """An event_url that leads to a link-local or metadata address is a 400 that names event_url."""
    refused = await junebug.post({"to": "1", "content": "c", "event_url": f"http://{host}/latest"})
    assert (refused.status, error_of(refused)) == (400, "invalid_body")
    (error,) = refused.body["result"]["errors"]
    assert error["message"].startswith("u'event_url' is refused")
    assert junebug.count("outbound") == 0


@pytest.mark.options(event_url_allowed_hosts=["*.example.org", "127.0.0.0/8"])
@pytest_twisted.ensureDeferred
async def test_event_url_by_the_rules(junebug: Running) -> None:
    """With event_url_allowed_hosts an event goes where the rules allow; what they don't is refused or parked."""
    refused = await junebug.post({"to": "1", "content": "c", "event_url": "http://10.0.0.1/"})
    assert (refused.status, error_of(refused)) == (400, "invalid_body")
    taken = await junebug.post(
        {
            "to": "1",
            "content": "c",
            "event_url": junebug.receiver.url("/events"),
            "event_auth_token": "event-token",
        }
    )
    message_id = taken.body["result"]["message_id"]
    junebug.publish("event", Event(user_message_id=message_id, event_type="ack"))
    (request,) = await junebug.receiver.received(1)
    assert request.headers["authorization"] == "Token event-token"


@pytest_twisted.ensureDeferred
async def test_event_url_whose_name_resolves_to_a_forbidden_address(junebug: Running) -> None:
    """An event for a name that resolves to a metadata address is parked as forbidden_address, untried."""
    url = "http://innocent.example.org/"
    answer = await junebug.post({"to": "1", "content": "c", "event_url": url})
    assert answer.status == 201
    with resolving(**{"innocent.example.org": "169.254.169.254"}) as names:
        junebug.publish("event", Event(user_message_id=answer.body["result"]["message_id"], event_type="ack"))
        properties, _ = await junebug.taken("event.parked")
    assert properties.headers is not None
    assert properties.headers["reason"] == "forbidden_address"
    assert names.asked == ["innocent.example.org"]


@pytest.mark.parametrize(
    "fields",
    [
        {"event_auth_token": "x\r\nX-Evil: 1"},
        {"event_auth_token": "x\x00"},
        {"event_url": "http://example.org/\r\nX-Evil: 1"},
        {"event_url": "http://example.org/\ud800"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_would_break_a_header(junebug: Running, fields: dict[str, str]) -> None:
    """Line ends and control characters in what becomes a header are a 400 that names the field."""
    refused = await junebug.post({"to": "1", "content": "c"} | fields)
    assert (refused.status, error_of(refused)) == (400, "invalid_body")
    assert next(iter(fields)) in refused.body["result"]["errors"][0]["message"]


def middleware(class_path: str, **options: Any) -> dict[str, Any]:
    every = {"inbound_enabled": True, "outbound_enabled": True, "event_enabled": True}
    return {"class_path": class_path, "enable_for_connectors": [CONNECTOR], **every, **options}


CONNECTOR = "guarded-by-middlewares"


@pytest_twisted.ensureDeferred
async def test_middlewares(rabbitmq: RabbitNode, pika_channel: BlockingChannel, receiver: Receiver) -> None:
    """Messages and events pass through the list; what one raises parks the message or is a 500, and stops nothing."""
    Mark.made.clear()
    options = {
        "mo_message_url": receiver.url("/inbound"),
        "default_event_url": receiver.url("/events"),
        "default_from_addr": "8110",
        "middlewares": [
            middleware("tests.support.middlewares.Fails"),
            middleware("tests.support.middlewares.Mark"),
        ],
    }
    async with running(rabbitmq, CONNECTOR, pika_channel, receiver, "junebug", **options) as side:
        (mark,) = Mark.made
        assert mark.calls == ["setup"]
        refused = await side.post({"to": "1", "content": "bad"})
        assert (refused.status, error_of(refused)) == (500, "InternalServerError")
        assert side.count("outbound") == 0
        answer = await side.post({"to": "1", "content": "good"})
        assert (answer.status, answer.body["result"]["content"]) == (201, "good")
        assert (await side.outbound())["content"] == "good!"

        side.publish("inbound", inbound(content="bad"))
        side.publish("inbound", inbound(content="good"))
        assert (await receiver.received(1))[0].json["content"] == "good!"
        properties, body = await side.taken("inbound.parked")
        assert properties.headers is not None
        assert properties.headers["reason"] == "error"
        assert json.loads(body)["content"] == "bad"

        side.publish("event", Event(user_message_id="m", event_type="nack", nack_reason="bad"))
        side.publish("event", Event(user_message_id="m", event_type="nack", nack_reason="good"))
        assert (await receiver.received(2))[1].json["event_details"] == {"reason": "good!"}
        assert json.loads((await side.taken("event.parked"))[1])["nack_reason"] == "bad"
        assert side.live()
    assert mark.calls == ["setup", "teardown"]
    for queue in ("inbound", "event", "outbound", "inbound.parked", "event.parked"):
        pika_channel.queue_delete(f"{CONNECTOR}.{queue}")
