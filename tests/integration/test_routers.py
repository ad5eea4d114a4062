"""Routers and their destinations, by black-box requests."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import pytest_twisted

from junebug_turn.messages.vumi import Event
from tests.support.channels import Junebug, RunJunebug, inbound, redis_options
from tests.support.daemon import until

CONFIG = {"test": "pass"}


async def router(side: Junebug, channel: str | None = None, **properties: Any) -> str:
    """Make a router of a new channel, or of a given one; returns its id."""
    config = {"channel": channel or await side.create()}
    answer = await side.call(
        "POST", "/routers/", {"type": "from_address", "label": "r", "config": config, **properties}
    )
    assert answer.status == 201, answer
    return str(answer.body["result"]["id"])


async def destination(side: Junebug, router: str, pattern: str, **properties: Any) -> str:
    """Make a destination; returns its id."""
    body = {"config": {"regular_expression": pattern}, **properties}
    answer = await side.call("POST", f"/routers/{router}/destinations/", body)
    assert answer.status == 201, answer
    return str(answer.body["result"]["id"])


@pytest_twisted.ensureDeferred
async def test_routers(run_junebug: RunJunebug) -> None:
    """A router is made, listed, shown, replaced, changed and deleted, with Junebug's descriptions."""
    async with run_junebug() as side:
        listed = await side.call("GET", "/routers/")
        assert (listed.status, listed.body["description"], listed.body["result"]) == (
            200,
            "routers retrieved",
            [],
        )
        channel = await side.create()
        body = {"type": "from_address", "config": {"channel": channel}, "metadata": {"a": 1}}
        made = await side.call("POST", "/routers/", body)
        assert (made.status, made.body["description"]) == (201, "router created")
        id = made.body["result"]["id"]
        assert made.body["result"] == body | {"id": str(uuid.UUID(id, version=4))}
        assert (await side.call("GET", "/routers/")).body["result"] == [id]
        found = await side.call("GET", f"/routers/{id}")
        assert (found.body["description"], found.body["result"]) == ("router found", body | {"id": id})
        changed = await side.call("PATCH", f"/routers/{id}", {"label": "new"})
        assert (changed.status, changed.body["description"]) == (200, "router updated")
        assert changed.body["result"] == body | {"id": id, "label": "new"}
        replacement = {"type": "from_address", "config": {"channel": channel}}
        replaced = await side.call("PUT", f"/routers/{id}", replacement)
        assert (replaced.body["description"], replaced.body["result"]) == (
            "router updated",
            replacement | {"id": id},
        )
        deleted = await side.call("DELETE", f"/routers/{id}")
        assert (deleted.status, deleted.body["description"], deleted.body["result"]) == (
            200,
            "router deleted",
            {},
        )
        assert (await side.call("GET", "/routers/")).body["result"] == []


@pytest_twisted.ensureDeferred
async def test_destinations(run_junebug: RunJunebug) -> None:
    """A destination is made, listed, shown, replaced, changed and deleted, with Junebug's descriptions."""
    async with run_junebug() as side:
        path = f"/routers/{await router(side)}/destinations/"
        listed = await side.call("GET", path)
        assert (listed.body["description"], listed.body["result"]) == ("destinations retrieved", [])
        body = {"config": {"regular_expression": "^8"}, "label": "one", "character_limit": 7}
        made = await side.call("POST", path, body)
        assert (made.status, made.body["description"]) == (201, "destination created")
        id = made.body["result"]["id"]
        assert made.body["result"] == body | {"id": id}
        assert (await side.call("GET", path)).body["result"] == [id]
        found = await side.call("GET", path + id)
        assert (found.body["description"], found.body["result"]) == ("destination found", body | {"id": id})
        changed = await side.call("PATCH", path + id, {"metadata": {}})
        assert (changed.body["description"], changed.body["result"]) == (
            "destination updated",
            body | {"id": id, "metadata": {}},
        )
        replacement = {"config": {"regular_expression": "^9"}}
        replaced = await side.call("PUT", path + id, replacement)
        assert replaced.body["result"] == replacement | {"id": id}
        deleted = await side.call("DELETE", path + id)
        assert (deleted.body["description"], deleted.body["result"]) == ("destination deleted", {})
        assert (await side.call("GET", path)).body["result"] == []


@pytest_twisted.ensureDeferred
async def test_not_found(run_junebug: RunJunebug) -> None:
    """A router or a destination that is not there is a 404 that names it; its body is checked first."""
    async with run_junebug() as side:
        id, message = await router(side), {"to": "+27", "content": "x"}
        whole = {"type": "from_address", "config": {"channel": "x"}}
        for start, type, text in (
            ("/routers/none", "RouterNotFound", "Router with ID none cannot be found"),
            ("/routers/none/destinations/d", "RouterNotFound", "Router with ID none cannot be found"),
            (
                f"/routers/{id}/destinations/none",
                "DestinationNotFound",
                f"Cannot find destination with ID none for router {id}",
            ),
        ):
            body = whole if start == "/routers/none" else {"config": {"regular_expression": "1"}}
            calls: list[tuple[str, str, Any]] = [
                ("GET", "", None),
                ("PUT", "", body),
                ("PATCH", "", {"label": "x"}),
                ("DELETE", "", None),
            ]
            if "destinations" in start:
                calls += [("POST", "/messages/", message), ("GET", "/messages/m1", None)]
            else:
                calls += [
                    ("GET", "/logs", None),
                    ("GET", "/destinations/", None),
                    ("POST", "/destinations/", body),
                ]
                calls[-1] = ("POST", "/destinations/", {"config": {"regular_expression": "1"}})
            for method, path, sent in calls:
                answer = await side.call(method, start + path, sent)
                assert answer.status == 404, (method, start + path)
                assert answer.body["result"]["errors"] == [{"type": type, "message": text}], (method, path)
            assert (await side.call("PATCH", start, {"foo": 1})).status == 400


@pytest_twisted.ensureDeferred
async def test_rules(run_junebug: RunJunebug) -> None:
    """The type must be known; the channel a UUID, there, without a destination, and in no other router; the regular
    expression of a destination given and right; no other properties."""
    async with run_junebug() as side:
        taken, missing = await side.create(), str(uuid.uuid4())
        other = await router(side, taken)
        with_url = await side.create(mo_url="http://h/")
        for config, text in (
            ({}, "Missing required config field 'channel'"),
            ({"channel": "no-uuid"}, "Error parsing config field 'channel': 'channel' is not a valid UUID"),
            ({"channel": missing}, f"Channel {missing} does not exist"),
            ({"channel": with_url}, f"Channel {with_url} already has a destination specified"),
            ({"channel": taken}, f"Router {other} is already routing channel {taken}"),
        ):
            answer = await side.call("POST", "/routers/", {"type": "from_address", "config": config})
            assert (answer.status, answer.body["description"]) == (400, "invalid router config"), config
            assert answer.body["result"]["errors"] == [{"type": "InvalidRouterConfig", "message": text}]
        answer = await side.call("POST", "/routers/", {"type": "foo", "config": {}})
        assert (answer.status, answer.body["description"]) == (400, "invalid router type")
        assert answer.body["result"]["errors"][0]["type"] == ["InvalidRouterType"]
        for config in ({}, {"regular_expression": "("}, {"regular_expression": 5}):
            answer = await side.call("POST", f"/routers/{other}/destinations/", {"config": config})
            assert (answer.status, answer.body["description"]) == (400, "invalid router destination config")
        answer = await side.call("POST", f"/routers/{other}/destinations/", {"config": {}, "foo": 1})
        (error,) = answer.body["result"]["errors"]
        assert error == {
            "type": "invalid_body",
            "message": "Additional properties are not allowed (u'foo' was unexpected)",
            "schema_path": ["additionalProperties"],
        }


@pytest_twisted.ensureDeferred
async def test_inbound(run_junebug: RunJunebug) -> None:
    """Each destination whose regular expression is found in the address that was dialled gets a copy; no other."""
    async with run_junebug() as side:
        channel = await side.create()
        id = await router(side, channel)
        await destination(side, id, "^811", mo_url=side.receiver.url("/one"), mo_url_token="t0ken-of-one")
        await destination(side, id, "110", mo_url=side.receiver.url("/two"))
        await destination(side, id, "^9", mo_url=side.receiver.url("/three"))
        side.of(channel).publish("inbound", inbound(channel, 1, to_addr="8110"))
        side.of(channel).publish("inbound", inbound(channel, 2, to_addr="555"))
        side.of(channel).publish("inbound", inbound(channel, 3, to_addr="901"))
        got = await side.receiver.received(3)
        assert sorted((each.path, each.json["content"]) for each in got) == [
            ("/one", "1"),
            ("/three", "3"),
            ("/two", "1"),
        ]
        assert {each.json["channel_id"] for each in got} == {channel}
        (one,) = [each for each in got if each.path == "/one"]
        assert one.headers["authorization"] == "Token t0ken-of-one"
        logs = (await side.call("GET", f"/routers/{id}/logs")).body
        assert logs["description"] == "logs retrieved"
        assert any("fits no destination" in line["message"] for line in logs["result"])


@pytest_twisted.ensureDeferred
async def test_no_address(run_junebug: RunJunebug) -> None:
    """An inbound message without a ``to_addr``, an event of an unknown message, and one of a message without a ``from``
    fit no destination, whatever its expression; the router's log has them, as many as are asked for."""
    async with run_junebug() as side:
        channel = await side.create()
        id = await router(side, channel)
        one = await destination(side, id, "", mo_url=side.receiver.url("/one"))
        message = inbound(channel, 1, to_addr=None)
        sent = await side.call(
            "POST",
            f"/routers/{id}/destinations/{one}/messages/",
            {"to": "+1234", "content": "hi", "event_url": side.receiver.url("/event")},
        )
        assert sent.status == 201
        ids = [sent.body["result"]["message_id"], "unknown"]
        side.of(channel).publish("inbound", message)
        for each in ids:
            side.of(channel).publish(
                "event", Event(user_message_id=each, event_type="ack", sent_message_id="1")
            )

        async def lines(query: str = "") -> list[str]:
            answer = await side.call("GET", f"/routers/{id}/logs{query}")
            return [line["message"] for line in answer.body["result"]]

        await until(
            lambda: side.of(channel).count("inbound") == side.of(channel).count("event") == 0, "taken"
        )
        await side.handlers_done()
        found = await lines()
        for each in (message.message_id, *ids):
            assert any(each in line and "fits no destination" in line for line in found), found
        assert await lines("?n=2") == found[:2]
        assert side.receiver.requests == []
        assert side.of(channel).count("inbound.parked") == side.of(channel).count("event.parked") == 0


@pytest_twisted.ensureDeferred
async def test_a_hostile_expression(run_junebug: RunJunebug) -> None:
    """A regular expression that would take for ever holds up no message; its own destination gets none until it is
    changed, and the router's log says so."""
    async with run_junebug() as side:
        channel = await side.create()
        id = await router(side, channel)
        hostile = await destination(side, id, "(a|aa)+$", mo_url=side.receiver.url("/hostile"))
        await destination(side, id, ".", mo_url=side.receiver.url("/other"))
        for number in range(3):
            side.of(channel).publish("inbound", inbound(channel, number, to_addr="a" * 60 + "b"))
        assert {each.path for each in await side.receiver.received(3)} == {"/other"}
        lines = (await side.call("GET", f"/routers/{id}/logs")).body["result"]
        (line,) = [line["message"] for line in lines if "takes too long" in line["message"]]
        assert hostile in line
        changes = {"config": {"regular_expression": "b$"}}
        changed = await side.call("PATCH", f"/routers/{id}/destinations/{hostile}", changes)
        assert changed.status == 200
        side.of(channel).publish("inbound", inbound(channel, 4, to_addr="ab"))
        got = await side.receiver.received(5)
        assert [each.json["content"] for each in got if each.path == "/hostile"] == ["4"]


@pytest_twisted.ensureDeferred
async def test_a_channel_that_changes(run_junebug: RunJunebug) -> None:
    """A router whose channel gets a URL of its own routes its messages no more; its log says why."""
    async with run_junebug() as side:
        channel = await side.create()
        id = await router(side, channel)
        await destination(side, id, "^811", mo_url=side.receiver.url("/routed"))

        async def path_of_next(number: int) -> str:
            side.of(channel).publish("inbound", inbound(channel, number))
            return (await side.receiver.received(number))[-1].path

        assert await path_of_next(1) == "/routed"
        changes = {"mo_url": side.receiver.url("/direct")}
        assert (await side.call("POST", f"/channels/{channel}", changes)).status == 200
        await until(lambda: list(side.daemon.broker.status()["consumers"]).count(f"{channel}.inbound") == 1)
        assert await path_of_next(2) == "/direct"
        logs = (await side.call("GET", f"/routers/{id}/logs")).body["result"]
        assert any("already has a destination specified" in line["message"] for line in logs)


@pytest_twisted.ensureDeferred
async def test_outbound_and_events(run_junebug: RunJunebug) -> None:
    """A destination's message goes to the channel's queue, and its events to where the message says, by its from."""
    async with run_junebug() as side:
        channel = await side.create()
        id = await router(side, channel)
        one = await destination(side, id, "^811", mo_url="http://127.0.0.1:1/")
        path = f"/routers/{id}/destinations/{one}/messages/"
        body = {"to": "+1234", "from": "8110", "content": "hi", "event_url": side.receiver.url("/ev")}
        sent = await side.call("POST", path, body)
        assert (sent.status, sent.body["result"]["channel_id"]) == (201, channel)
        message_id = sent.body["result"]["message_id"]
        wire = await side.of(channel).outbound()
        assert (wire["message_id"], wire["transport_name"], wire["content"]) == (message_id, channel, "hi")
        assert (await side.call("GET", path + message_id)).body["result"]["events"] == []
        side.of(channel).publish(
            "event", Event(user_message_id=message_id, event_type="ack", sent_message_id="1")
        )
        (got,) = await side.receiver.received(1)
        assert (got.json["event_type"], got.json["channel_id"]) == ("submitted", channel)
        status = (await side.call("GET", path + message_id)).body
        assert (status["description"], status["result"]["last_event_type"]) == ("message status", "submitted")


@pytest_twisted.ensureDeferred
async def test_reply(run_junebug: RunJunebug) -> None:
    """A destination replies to the messages that it got; another destination can't."""
    async with run_junebug() as side:
        channel = await side.create()
        id = await router(side, channel)
        one = await destination(side, id, "^811", mo_url=side.receiver.url("/one"))
        two = await destination(side, id, "^9", mo_url=side.receiver.url("/two"))
        message = inbound(channel)
        side.of(channel).publish("inbound", message)
        await side.receiver.received(1)
        answers = [
            await side.call(
                "POST",
                f"/routers/{id}/destinations/{each}/messages/",
                {"reply_to": message.message_id, "content": "hi"},
            )
            for each in (one, two)
        ]
        assert [answer.status for answer in answers] == [201, 400]
        assert answers[1].body["result"]["errors"][0]["type"] == "MessageNotFound"
        wire = await side.of(channel).outbound()
        assert (wire["to_addr"], wire["in_reply_to"]) == (message.from_addr, message.message_id)


@pytest.mark.parametrize("path", ["", "/jb"])
@pytest_twisted.ensureDeferred
async def test_startup(run_junebug: RunJunebug, path: str) -> None:
    """Routers and destinations of the store run at the start."""
    options = redis_options() | {"channels_base_path": path}
    async with run_junebug(**options) as side:
        channel = await side.create()
        id = await router(side, channel)
        one = await destination(side, id, "^811", mo_url=side.receiver.url("/one"))
    async with run_junebug(**options) as side:
        side.of(channel).publish("inbound", inbound(channel))
        await side.receiver.received(1)
        sent = await side.call(
            "POST",
            f"/routers/{id}/destinations/{one}/messages",
            {"to": "+1", "from": "8110", "content": json.dumps(CONFIG)},
        )
        assert sent.status == 201
