"""Health with the queues of channels, the logs of a channel, and channels that a file configures, by requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from junebug_turn.daemon import queue_counts
from tests.support.channels import RunJunebug, inbound, reactor
from tools.servers.receiver import Answer, Receiver


@pytest_twisted.async_yield_fixture
async def management() -> AsyncIterator[Receiver]:
    """The management API of a broker."""
    server = Receiver(reactor)
    server.start()
    yield server
    await server.stop()


# Health


@pytest_twisted.ensureDeferred
async def test_health(run_junebug: RunJunebug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the management API health is that of the daemon, with the queues as the broker counts them."""
    monkeypatch.setattr(queue_counts, "INTERVAL", 0.2)
    async with run_junebug() as side:
        answer = await side.call("GET", "/health")
        assert (answer.status, answer.body["description"], answer.body["queues"]) == (200, "health ok", [])
        assert answer.body["result"]["channels"]["ok"]
        id = await side.create(mo_url="http://127.0.0.1:1/")
        await side.call("POST", f"/channels/{id}/messages/", {"to": "+27", "content": "x"})

        async def queues() -> dict[str, Any]:
            found = (await side.call("GET", "/health")).body["queues"]
            return {each["name"]: (each["messages"], each["stuck"]) for each in found}

        expected = {f"{id}.inbound": (0, False), f"{id}.outbound": (1, True), f"{id}.event": (0, False)}
        for _ in range(200):
            if await queues() == expected:
                break
            await deferLater(reactor, 0.05)
        assert await queues() == expected
        assert (await side.call("GET", "/health")).status == 200


def queue(messages: int | None, rate: float | None) -> dict[str, Any]:
    """A queue as the management API shows it."""
    shown: dict[str, Any] = {} if messages is None else {"messages": messages}
    return shown if rate is None else shown | {"message_stats": {"ack_details": {"rate": rate}}}


@pytest_twisted.ensureDeferred
async def test_queues_of_the_management_api(
    run_junebug: RunJunebug, junebug_vhost: str, management: Receiver
) -> None:
    """With ``rabbitmq_management_interface`` health has each queue's rate: 200 "queues ok", or 500 "queues stuck" where
    messages wait in one and none is acknowledged; a queue without ``messages`` is left out."""
    interface = f"127.0.0.1:{management.port}"
    async with run_junebug(channels_rabbitmq_management_interface=interface) as side:
        id = await side.create(mo_url="http://127.0.0.1:1/")
        for shown, status, description, result in (
            (queue(1, 0.5), 200, "queues ok", {"messages": 1, "rate": 0.5, "stuck": False}),
            (queue(0, 0), 200, "queues ok", {"messages": 0, "rate": 0, "stuck": False}),
            (queue(1, 0), 500, "queues stuck", {"messages": 1, "rate": 0, "stuck": True}),
            (queue(1, None), 500, "queues stuck", {"messages": 1, "stuck": True}),
            (queue(None, None), 200, "queues ok", None),
        ):
            management.requests.clear()
            management.default = Answer(body=json.dumps(shown).encode())
            answer = await side.call("GET", "/health")
            assert (answer.status, answer.body["description"]) == (status, description), answer.body[
                "queues_fault"
            ]
            kinds = ("inbound", "outbound", "event")
            assert answer.body["result"] == [
                {"name": f"{id}.{kind}", **result} for kind in kinds if result is not None
            ]
        expected = sorted(f"/api/queues/{junebug_vhost}/{id}.{kind}" for kind in kinds)
        assert sorted(each.path for each in management.requests) == expected
        assert all(each.headers["authorization"].startswith("Basic ") for each in management.requests)


@pytest_twisted.ensureDeferred
async def test_management_api_away(run_junebug: RunJunebug) -> None:
    """A management API that is away makes the daemon not less healthy; the answer says so."""
    async with run_junebug(channels_rabbitmq_management_interface="127.0.0.1:1") as side:
        await side.create()
        answer = await side.call("GET", "/health")
        assert (answer.status, answer.body["description"]) == (200, "health ok")
        assert "management API" in answer.body["queues_fault"]


# Logs


@pytest_twisted.ensureDeferred
async def test_logs(run_junebug: RunJunebug) -> None:
    """A channel's logs are our lines about it, the newest first: n of them, and never more than ``max_logs``."""
    async with run_junebug(channels_max_logs=4) as side:
        id = await side.create(mo_url=side.receiver.url("/mo"))
        for number in range(3):
            side.of(id).publish("inbound", inbound(id, number))
        await side.receiver.received(3)
        await side.handlers_done()

        async def logs(query: str = "") -> list[dict[str, Any]]:
            answer = await side.call("GET", f"/channels/{id}/logs{query}")
            assert (answer.status, answer.body["description"]) == (200, "logs retrieved")
            return list(answer.body["result"])

        found = await logs()
        assert len(found) == 4
        assert {"logger", "level", "timestamp", "message"} == found[0].keys()
        assert found[0]["logger"] == found[0]["logger"].lower()
        assert "Delivered" in found[0]["message"]
        assert await logs("?n=2") == found[:2]
        assert await logs("?n=100") == found
        assert await logs("?n=0") == []
        answer = await side.call("GET", f"/channels/{id}/logs?n=two")
        assert (answer.status, answer.body["result"]["errors"][0]["type"]) == (400, "ApiUsageError")


@pytest_twisted.ensureDeferred
async def test_no_logs(run_junebug: RunJunebug) -> None:
    """A new channel has the line that it runs, and no other."""
    async with run_junebug() as side:
        id = await side.create()
        (line,) = (await side.call("GET", f"/channels/{id}/logs")).body["result"]
        assert line["message"] == f"channel {id} runs"


# Configured applications


@pytest_twisted.ensureDeferred
async def test_configured_applications(run_junebug: RunJunebug, connector_name: str) -> None:
    """Configured applications are listed and shown without secrets, take messages, and can't be changed: 409, with the
    place where they are configured."""
    configured = {
        "application": "junebug",
        "connector_name": connector_name,
        "mo_message_url": "http://user:pass-word-of-mo@127.0.0.1:1/mo",
        "default_from_addr": "8110",
        "base_url_path": "/old",
    }
    async with run_junebug(applications=[configured]) as side:
        id = await side.create()
        listed = (await side.call("GET", "/channels/")).body["result"]
        assert listed == sorted([id, connector_name])
        found = (await side.call("GET", f"/channels/{connector_name}")).body["result"]
        assert found.pop("status")["components"]["transport"]["status"] == "down"
        assert found == {
            "id": connector_name,
            "type": "junebug",
            "config": {},
            "mo_url": "http://127.0.0.1:1/mo",
        }
        for path in (f"/channels/{connector_name}/messages/", "/old/messages"):
            sent = await side.call("POST", path, {"to": "+27", "content": "x"})
            assert (sent.status, sent.body["result"]["channel_id"]) == (201, connector_name)
        for method, path, body in (
            ("POST", "", {"label": "x"}),
            ("DELETE", "", None),
            ("POST", "/restart", None),
        ):
            answer = await side.call(method, f"/channels/{connector_name}{path}", body)
            assert (answer.status, answer.body["result"]["errors"][0]["type"]) == (409, "ChannelConfigured")
            assert "a configuration file" in answer.body["result"]["errors"][0]["message"]
        assert (await side.call("GET", f"/channels/{connector_name}/logs")).status == 200
