"""Repeats at several daemons that share a store, and after a restart: Idempotency-Key, Turn's and RapidPro's."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import ResponseNeverReceived

from junebug_turn.applications.turn.signature import HEADER, sign
from tests.integration.conftest import RunDaemon
from tests.integration.test_idempotency import Gate
from tests.support.daemon import Answered, Running, until
from tests.support.store_harness import reactor, redis_server
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver
from tools.servers.redis import RedisServer

APPLICATIONS = ["junebug", "turn", "rapidpro"]
STORES = ["redis", "sqlite"]


class Daemons:
    """Daemons with one application each, the same for all, and one store."""

    def __init__(
        self, run_daemon: RunDaemon, application: str, store: str, config: dict[str, Any], receiver: Receiver
    ) -> None:
        self._run, self._application = run_daemon, application
        options: dict[str, dict[str, Any]] = {
            "junebug": {"mo_message_url": receiver.url("/inbound")},
            "turn": {
                "turn_api_url": receiver.url(""),
                "auth_token": "t0ken",
                "turn_hmac_secret": "hm4c",
                "webhook_answer_timeout": 60,
            },
            "rapidpro": {"rapidpro_url": receiver.url("")},
        }
        name = "state_cache" if application == "junebug" else "message_cache"
        self._options = options[application] | {
            "default_from_addr": "8110",
            f"{name}_class": store,
            f"{name}_config": config,
        }

    def run(self) -> Any:
        return self._run(self._application, **self._options)

    async def post(self, side: Running, text: str = "c") -> Answered:
        """Send a message; the same text is a repeat."""
        if self._application == "junebug":
            return await side.post({"to": "+27123", "content": text}, headers={"Idempotency-Key": text})
        if self._application == "turn":
            body = json.dumps({"to": "+27123", "turn": {"text": {"body": text}}}).encode()
            return await side.post(body, headers={HEADER: sign(b"hm4c", body).decode()})
        body = json.dumps({"id": "1", "to": "+27123", "text": text}).encode()
        headers = {"Content-Type": "application/json"}
        return await side.request("POST", f"{side.path}/send", body, headers=headers)


@pytest.fixture
def daemons(
    request: pytest.FixtureRequest, run_daemon: RunDaemon, receiver: Receiver, tmp_path: Path
) -> Daemons:
    application, store = request.param
    config = (
        {"url": redis_server().url}
        if store == "redis"
        else {"path": str(tmp_path / "cache.db"), "cache_timeout": 60}
    )
    return Daemons(run_daemon, application, store, config, receiver)


def each(*applications: str) -> Any:
    """Each of these applications with each store."""
    return pytest.mark.parametrize(
        "daemons", [(name, store) for name in applications for store in STORES], indirect=True
    )


async def repeats(side: Running) -> int:
    """How many requests the daemon has counted as repeats."""
    response = await treq.get(f"{side.url}/metrics", persistent=False, timeout=60)
    text = await response.text()
    found = re.findall(r"^junebug_turn_repeated_requests_total\{.*\} (.*)$", text, re.MULTILINE)
    return sum(int(float(count)) for count in found)


@each("junebug", "rapidpro")
@pytest_twisted.ensureDeferred
async def test_another_process(daemons: Daemons) -> None:
    """A repeat is known to every process that shares the store, and survives a restart: it is answered as before, and
    sent once."""
    async with daemons.run() as one, daemons.run() as other:
        first = await daemons.post(one)
        repeat = await daemons.post(other)
    async with daemons.run() as later:
        assert first.status in (200, 201)
        assert first.body == repeat.body == (await daemons.post(later)).body
        assert later.count("outbound") == 1


@each(*APPLICATIONS)
@pytest_twisted.ensureDeferred
async def test_at_the_same_moment(daemons: Daemons) -> None:
    """Requests at the same moment at two processes are one message, and get the same answer."""
    async with daemons.run() as one, daemons.run() as other:
        gates = [Gate(side) for side in (one, other)]
        requests = [Deferred.fromCoroutine(daemons.post(side)) for side in (one, other)]
        # One of them holds its message, and the other has seen that.
        await until(lambda: sum(len(gate.held) for gate in gates) == 1, "the first message")
        while await repeats(one) + await repeats(other) == 0:
            await deferLater(reactor, 0.05)
        for gate in gates:
            gate.open()
        first, second = [await request for request in requests]
        assert first.status in (200, 201)
        assert first.body == second.body
        assert one.count("outbound") == 1


@each("turn")
@pytest_twisted.ensureDeferred
async def test_unanswered_webhook(daemons: Daemons, rabbitmq: RabbitNode) -> None:
    """Turn's webhook that was not answered before a restart gets the id of its message when it comes again; one that
    comes after an answer is a new message."""
    async with daemons.run() as one:
        gate = Gate(one)
        request = Deferred.fromCoroutine(daemons.post(one))
        (site,) = one.daemon.sites.values()
        await until(lambda: site.under_way, "the webhook")
        request.cancel()
        with pytest.raises((CancelledError, ResponseNeverReceived)):
            await request
        await until(lambda: not site.under_way, "the end of the request")
        gate.open()
        await until(lambda: one.count("outbound"), "the message")
    async with daemons.run() as later:
        again = await daemons.post(later)
        sent = await later.outbound()
        assert again.body == {"messages": [{"id": sent["message_id"]}]}
        assert later.count("outbound") == 0
        assert (await daemons.post(later)).body != again.body
        assert later.count("outbound") == 1


@pytest_twisted.ensureDeferred
async def test_store_away(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """While the store is away a request with a key gets 503 with Retry-After, and nothing is sent."""
    with RedisServer() as server:
        config = {"url": server.url, "cache_timeout": 0.5}
        daemons = Daemons(run_daemon, "junebug", "redis", config, receiver)
        async with AsyncExitStack() as stack:
            side = await stack.enter_async_context(daemons.run())
            await deferToThread(server.stop)
            answer = await daemons.post(side)
            assert answer.status == 503
            assert "retry-after" in answer.headers
            assert answer.body["result"]["errors"][0]["type"] == "CacheError"
            assert side.count("outbound") == 0
