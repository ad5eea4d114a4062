"""The Idempotency-Key header of the Junebug Message API, on the real daemon."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.web.client import ResponseNeverReceived

from junebug_turn.applications.turn.signature import HEADER, sign
from junebug_turn.http.deduplication import IDEMPOTENCY_WINDOW
from tests.conftest import pika_connection
from tests.integration.conftest import RunDaemon
from tests.support.daemon import Answered, Running, until
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

BODY = {"to": "+27123", "content": "héllo"}


@pytest_twisted.async_yield_fixture
async def junebug(run_daemon: RunDaemon, receiver: Receiver) -> AsyncIterator[Running]:
    async with run_daemon(
        "junebug",
        mo_message_url=receiver.url("/inbound"),
        default_from_addr="8110",
    ) as side:
        yield side


class Gate:
    """Holds every message before it is published, until ``open``."""

    def __init__(self, side: Running) -> None:
        self.held: list[Deferred[None]] = []
        cache: Any = side.daemon.stores[side.connector]
        self._store, self._cache = cache.store_outbound, cache
        cache.store_outbound = self._hold

    async def _hold(self, *args: Any) -> None:
        held: Deferred[None] = Deferred()
        self.held.append(held)
        await held
        await self._store(*args)

    def open(self) -> None:
        self._cache.store_outbound = self._store
        for held in self.held:
            if not held.called:
                held.callback(None)


def post(side: Running, key: str, body: Any = BODY) -> Deferred[Answered]:
    return Deferred.fromCoroutine(side.post(body, headers={"Idempotency-Key": key}))


def kind_of(answer: Answered) -> tuple[int, str]:
    return answer.status, answer.body["result"]["errors"][0]["type"]


@pytest_twisted.ensureDeferred
async def test_repeat(junebug: Running) -> None:
    """A repeat gets the first answer, word for word, and publishes nothing; another key, or none, does."""
    first = await post(junebug, "k")
    repeat = await post(junebug, "k")
    assert first.status == repeat.status == 201
    assert first.body == repeat.body
    assert junebug.count("outbound") == 1
    assert (await post(junebug, "K")).status == 201
    assert (await junebug.post(BODY)).status == 201
    assert (await junebug.post(BODY)).status == 201
    await until(lambda: junebug.count("outbound") == 4, "one of each")


@pytest_twisted.ensureDeferred
async def test_window(run_daemon: RunDaemon, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is known for 24 hours; then it is a new one."""
    assert IDEMPOTENCY_WINDOW == 24 * 3600
    monkeypatch.setattr("junebug_turn.applications.junebug.api.IDEMPOTENCY_WINDOW", 0.5)
    options = {"mo_message_url": receiver.url("/inbound"), "default_from_addr": "8110"}
    async with run_daemon("junebug", **options) as side:
        await post(side, "k")
        limit = time.monotonic() + 60
        while side.count("outbound") < 2:
            assert time.monotonic() < limit
            assert (await post(side, "k")).status == 201


@pytest_twisted.ensureDeferred
async def test_different_body(junebug: Running) -> None:
    """The same key with another body is a 422, while the first runs and afterwards, and publishes nothing."""
    gate = Gate(junebug)
    first = post(junebug, "k")
    await until(lambda: gate.held, "the first")
    expected = (422, "IdempotencyKeyReused")
    assert kind_of(await post(junebug, "k", {**BODY, "content": "other"})) == expected
    gate.open()
    assert (await first).status == 201
    assert kind_of(await post(junebug, "k", {**BODY, "content": "other"})) == expected
    assert junebug.count("outbound") == 1


@pytest_twisted.ensureDeferred
async def test_first_still_running(junebug: Running) -> None:
    """A repeat that comes while the first is still running waits for its answer."""
    gate = Gate(junebug)
    requests = [post(junebug, "k") for _ in range(3)]
    await until(lambda: gate.held, "the first")
    gate.open()
    answers = [await request for request in requests]
    assert {json.dumps(answer.body) for answer in answers} == {json.dumps(answers[0].body)}
    assert answers[0].status == 201
    assert junebug.count("outbound") == 1


@pytest_twisted.ensureDeferred
async def test_failure_is_not_kept(junebug: Running) -> None:
    """A failure may be tried again, also with a body that is right now."""
    assert kind_of(await post(junebug, "k", {"to": 5, "content": "c"})) == (400, "invalid_body")
    queue = f"{junebug.connector}.outbound"
    junebug.channel.queue_unbind(queue, "vumi", queue)
    assert kind_of(await post(junebug, "k")) == (503, "Unroutable")
    # Which has the daemon bind it again.
    junebug.channel.queue_bind(queue, "vumi", queue)
    assert (await post(junebug, "k")).status == 201
    assert junebug.count("outbound") == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
@pytest_twisted.ensureDeferred
async def test_bad_key(junebug: Running, key: str) -> None:
    """A key that isn't 1 to 255 printable ASCII characters is a 400."""
    assert kind_of(await post(junebug, key)) == (400, "ApiUsageError")
    assert junebug.count("outbound") == 0


@pytest_twisted.ensureDeferred
async def test_longest_key(junebug: Running) -> None:
    """255 printable characters, blanks among them, are a key; two keys are none."""
    key = "a b" + "~" * 252
    assert (await post(junebug, key)).body == (await post(junebug, key)).body
    response = await treq.post(
        f"{junebug.url}/messages",
        json.dumps(BODY).encode(),
        headers={"Idempotency-Key": ["a", "b"]},
        persistent=False,
    )
    assert response.code == 400
    await response.content()


async def goes_away(request: Deferred[Answered]) -> None:
    request.cancel()
    with pytest.raises((CancelledError, ResponseNeverReceived)):
        await request


@pytest_twisted.ensureDeferred
async def test_client_goes_away(junebug: Running) -> None:
    """When the client goes away while the broker has its message, the work goes on; the repeat gets its answer."""
    gate = Gate(junebug)
    first = post(junebug, "k")
    await until(lambda: gate.held, "the first")
    await goes_away(first)
    (site,) = junebug.daemon.sites.values()
    await until(lambda: site.under_way == 0, "the end of the request")
    repeat = post(junebug, "k")
    gate.open()
    assert (await repeat).status == 201
    assert junebug.count("outbound") == 1
    assert len(gate.held) == 1


@pytest_twisted.ensureDeferred
async def test_client_goes_away_before_the_confirm(junebug: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client goes away after its message was handed to the broker, the repeat gets its answer."""
    # private: the broker answers at once: only the publisher can hold its confirm back.
    publisher, held = junebug.daemon.broker._publisher, []
    (site,) = junebug.daemon.sites.values()
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "confirmed", lambda *confirm: held.append(confirm))
        first = post(junebug, "k")
        await until(lambda: held, "the broker's confirm")
        await goes_away(first)
        await until(lambda: site.under_way == 0, "the end of the request")
        repeat = post(junebug, "k")
        await until(lambda: site.under_way == 1, "the repeat")
    publisher.confirmed(*held[0])
    answer = await repeat
    assert answer.status == 201
    assert junebug.count("outbound") == 1


@pytest.mark.parametrize(("application", "status"), [("junebug", 201), ("turn", 200)])
@pytest_twisted.ensureDeferred
async def test_unknown_outcome(
    run_daemon: RunDaemon, receiver: Receiver, rabbitmq: RabbitNode, application: str, status: int
) -> None:
    """What was handed to a broker that is blocked is remembered beyond ``request_timeout``: a repeat gets the outcome,
    503 while it is unknown and the message's id when it is confirmed, and no second message is sent.  The same for a
    webhook of Turn that comes again."""
    options: dict[str, Any] = {"default_from_addr": "8110", "request_timeout": 0.5}
    if application == "junebug":
        options |= {"mo_message_url": receiver.url("/inbound")}
        body, headers = json.dumps(BODY).encode(), {"Idempotency-Key": "k"}
    else:
        options |= {"turn_api_url": receiver.url(""), "auth_token": "t0ken", "turn_hmac_secret": "hm4c"}
        body = json.dumps({"to": "+27123", "turn": {"text": {"body": "c"}}}).encode()
        headers = {HEADER: sign(b"hm4c", body).decode()}
    async with run_daemon(application, **options) as side:
        await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            for _ in range(3):
                answer = await side.post(body, headers=headers)
                assert answer.status == 503
                assert "retry-after" in answer.headers
            assert side.daemon.health()["amqp"]["blocked"]
        finally:
            await deferToThread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.9")
        await until(lambda: side.count("outbound"), "the message")
        answer = await side.post(body, headers=headers)
        assert answer.status == status
        sent = (await side.outbound())["message_id"]
        assert sent in json.dumps(answer.body)
        assert side.count("outbound") == 0


@pytest_twisted.ensureDeferred
async def test_client_goes_away_while_the_broker_is(junebug: Running, rabbitmq: RabbitNode) -> None:
    """When the client goes away while its message waits for the broker, it is withdrawn; unless a repeat waits for
    it, too."""
    (site,) = junebug.daemon.sites.values()
    await deferToThread(rabbitmq.stop_app)
    try:
        await until(lambda: not junebug.live(), "the outage")
        alone, awaited = post(junebug, "alone"), post(junebug, "awaited")
        await until(lambda: site.under_way == 2, "both messages")
        repeat = post(junebug, "awaited")
        await until(lambda: site.under_way == 3, "the repeat")
        await goes_away(alone)
        await goes_away(awaited)
        await until(lambda: site.under_way == 1, "the withdrawal")
    finally:
        await deferToThread(rabbitmq.start_app)
    answer = await repeat
    assert answer.status == 201
    assert (await post(junebug, "awaited")).body == answer.body
    # The one that nobody waited for was never published; the fixture's connection is gone with the broker.
    connection = pika_connection(rabbitmq)
    queue = connection.channel().queue_declare(f"{junebug.connector}.outbound", passive=True)
    assert queue.method.message_count == 1
    connection.close()
