"""Channels of the store, by black-box requests: made, changed, shown, restarted and deleted while the daemon runs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest_twisted

from tests.support.channels import RunJunebug, inbound, redis_options
from tests.support.daemon import until

BODY = {
    "type": "telnet",
    "label": "My first channel",
    "config": {"twisted_endpoint": "tcp:9001"},
    "metadata": {"owned_by": "user-5"},
    "mo_url": "http://127.0.0.1:1/mo",
    "rate_limit_count": 500,
    "rate_limit_window": 10,
    "character_limit": 160,
    "something_else": [1, {"a": None}],
}
NO_RATES = {
    f"{name}_rate": 0
    for name in (
        "inbound_message",
        "outbound_message",
        "submitted_event",
        "rejected_event",
        "delivery_succeeded",
        "delivery_failed",
        "delivery_pending",
    )
}


@pytest_twisted.ensureDeferred
async def test_get_channel_list(run_junebug: RunJunebug) -> None:
    """GET /channels/ is the sorted list of ids, with and without the slash."""
    async with run_junebug() as side:
        assert (await side.call("GET", "/channels/")).body == {
            "status": 200,
            "code": "OK",
            "description": "channels listed",
            "result": [],
        }
        made = sorted([await side.create(), await side.create()])
        for path in ("/channels/", "/channels"):
            assert (await side.call("GET", path)).body["result"] == made


@pytest_twisted.ensureDeferred
async def test_create_channel(run_junebug: RunJunebug) -> None:
    """POST /channels/ answers 201 with all properties, known or not, a uuid4 as id, and the status."""
    async with run_junebug() as side:
        answer = await side.call("POST", "/channels/", BODY)
        assert (answer.status, answer.body["code"], answer.body["description"]) == (
            201,
            "Created",
            "channel created",
        )
        result = answer.body["result"]
        id, status = result.pop("id"), result.pop("status")
        assert str(uuid.UUID(id, version=4)) == id
        assert result == BODY
        transport = status.pop("components").pop("transport")
        assert status == {"status": "down", **NO_RATES}
        assert (transport["channel_id"], transport["component"], transport["status"]) == (
            id,
            "transport",
            "down",
        )
        assert f"{id}.outbound" in transport["message"]
        found = await side.call("GET", f"/channels/{id}")
        assert (found.status, found.body["description"]) == (200, "channel found")
        assert found.body["result"] == answer.body["result"] | {
            "id": id,
            "status": found.body["result"]["status"],
        }


@pytest_twisted.ensureDeferred
async def test_status_of_the_transport(run_junebug: RunJunebug) -> None:
    """The status has the transport as a component: ok while somebody consumes the channel's outbound queue."""
    async with run_junebug() as side:
        id = await side.create(mo_url="http://127.0.0.1:1/")
        side.channel.basic_consume(f"{id}.outbound", lambda *_: None, consumer_tag="transport")
        status = (await side.call("GET", f"/channels/{id}")).body["result"]["status"]
        assert status["status"] == status["components"]["transport"]["status"] == "ok"
        side.channel.basic_cancel("transport")
        status = (await side.call("GET", f"/channels/{id}")).body["result"]["status"]
        assert status["status"] == "down"


INVALID: list[tuple[str, Any, list[dict[str, Any]]]] = [
    (
        "minimum",
        BODY | {"rate_limit_count": -3, "character_limit": -7},
        [
            {
                "type": "invalid_body",
                "message": "-3 is less than the minimum of 0",
                "schema_path": ["properties", "rate_limit_count", "minimum"],
            },
            {
                "type": "invalid_body",
                "message": "-7 is less than the minimum of 0",
                "schema_path": ["properties", "character_limit", "minimum"],
            },
        ],
    ),
    (
        "type",
        BODY | {"config": "lemons"},
        [
            {
                "type": "invalid_body",
                "message": "u'lemons' is not of type 'object'",
                "schema_path": ["properties", "config", "type"],
            }
        ],
    ),
    (
        "required",
        {"type": "telnet"},
        [{"type": "invalid_body", "message": "'config' is a required property", "schema_path": ["required"]}],
    ),
    (
        "null",
        BODY | {"mo_url": None},
        [
            {
                "type": "invalid_body",
                "message": "None is not of type 'string'",
                "schema_path": ["properties", "mo_url", "type"],
            }
        ],
    ),
    (
        "no object",
        [],
        [{"type": "invalid_body", "message": "[] is not of type 'object'", "schema_path": ["type"]}],
    ),
    (
        "URL",
        BODY | {"mo_url": "ftp://h/"},
        [
            {
                "type": "invalid_body",
                "message": "u'mo_url' must be a URL that begins with http:// or https:// and has a host",
                "schema_path": ["properties", "mo_url"],
            }
        ],
    ),
]


@pytest_twisted.ensureDeferred
async def test_create_channel_invalid_parameters(run_junebug: RunJunebug) -> None:
    """A body that the schema refuses is a 400 with each fault, its message as Junebug's and its path in the schema."""
    async with run_junebug() as side:
        for what, body, errors in INVALID:
            answer = await side.call("POST", "/channels/", body)
            assert (answer.status, answer.body["description"]) == (400, "api usage error"), what
            assert answer.body["result"]["errors"] == errors, what
        assert (await side.call("GET", "/channels/")).body["result"] == []


@pytest_twisted.ensureDeferred
async def test_create_channel_invalid_type(run_junebug: RunJunebug) -> None:
    """A type that is not known is a 400 whose error type is a list, as clients know it; an option adds types."""
    async with run_junebug(channels_extra_types=["whatsapp"]) as side:
        answer = await side.call("POST", "/channels/", BODY | {"type": "foo"})
        assert (answer.status, answer.body["description"]) == (400, "invalid channel type")
        (error,) = answer.body["result"]["errors"]
        assert error["type"] == ["InvalidChannelType"]
        assert error["message"].startswith("Invalid channel type u'foo', must be one of: ")
        assert await side.create(type="whatsapp")


@pytest_twisted.ensureDeferred
async def test_invalid_json_handling(run_junebug: RunJunebug) -> None:
    """A body that is not JSON is a 400, json decode error; a wrong path or method has the same envelope."""
    async with run_junebug() as side:
        answer = await side.call("POST", "/channels/", b"{")
        assert (answer.status, answer.body["description"]) == (400, "json decode error")
        assert answer.body["result"]["errors"][0]["type"] == "JsonDecodeError"
        for method, path, status in (("PUT", "/channels/", 405), ("GET", "/channels/a/foo", 404)):
            answer = await side.call(method, path)
            assert (answer.status, answer.body["status"]) == (status, status)
            assert answer.body["result"]["errors"]


@pytest_twisted.ensureDeferred
async def test_unknown_channel(run_junebug: RunJunebug) -> None:
    """Every call for a channel that is not there is a 404, after its body was checked."""
    async with run_junebug() as side:
        calls: list[tuple[str, str, Any]] = [
            ("GET", "", None),
            ("POST", "", {"label": "x"}),
            ("DELETE", "", None),
            ("POST", "/restart", None),
            ("GET", "/logs", None),
            ("POST", "/messages/", {"to": "+27", "content": "x"}),
            ("GET", "/messages/m1", None),
        ]
        for method, path, body in calls:
            answer = await side.call(method, f"/channels/no-such-channel{path}", body)
            assert (answer.status, answer.body["description"]) == (404, "channel not found"), path
            assert answer.body["result"]["errors"] == [{"type": "ChannelNotFound", "message": ""}], path
        for path, body in (("", {"label": 5}), ("/messages/", {"to": "+27", "content": "x", "foo": 1})):
            answer = await side.call("POST", f"/channels/no-such-channel{path}", body)
            assert (answer.status, answer.body["description"]) == (400, "api usage error"), path


@pytest_twisted.ensureDeferred
async def test_modify_channel(run_junebug: RunJunebug) -> None:
    """POST /channels/<id> changes what it names, keeps the rest, and counts from then on; null takes a URL away."""
    async with run_junebug() as side:
        id = await side.create(**BODY)
        answer = await side.call(
            "POST", f"/channels/{id}", {"metadata": {"foo": "bar"}, "config": {}, "new": 1}
        )
        assert (answer.status, answer.body["description"]) == (200, "channel updated")
        result = answer.body["result"]
        del result["status"]
        assert result == BODY | {"metadata": {"foo": "bar"}, "config": {}, "new": 1, "id": id}
        answer = await side.call("POST", f"/channels/{id}", {"character_limit": 2, "status_url": None})
        assert answer.body["result"]["status_url"] is None
        sent = await side.call("POST", f"/channels/{id}/messages/", {"to": "+27", "content": "long"})
        assert (sent.status, sent.body["description"]) == (400, "message too long")
        answer = await side.call("POST", f"/channels/{id}", {"character_limit": -1, "mo_url": 5})
        assert answer.status == 400
        assert len(answer.body["result"]["errors"]) == 2


@pytest_twisted.ensureDeferred
async def test_delete_channel(run_junebug: RunJunebug) -> None:
    """DELETE takes a channel out of the store and its consumers away; what is in its queues stays there."""
    async with run_junebug() as side:
        id = await side.create(mo_url=side.receiver.url("/mo"))
        await until(side.live, "the consumers")
        answer = await side.call("DELETE", f"/channels/{id}")
        assert (answer.status, answer.body["description"], answer.body["result"]) == (
            200,
            "channel deleted",
            {},
        )
        assert (await side.call("GET", f"/channels/{id}")).status == 404
        assert (await side.call("GET", "/channels/")).body["result"] == []
        await until(lambda: not side.daemon.health()["amqp"]["consumers"], "the consumers' end")
        side.of(id).publish("inbound", inbound(id))
        await until(lambda: side.of(id).count("inbound") == 1)
        assert not side.receiver.requests


@pytest_twisted.ensureDeferred
async def test_restart_channel(run_junebug: RunJunebug) -> None:
    """POST /channels/<id>/restart makes the consumers anew; the body is ignored."""
    async with run_junebug() as side:
        id = await side.create(mo_url=side.receiver.url("/mo"))
        answer = await side.call("POST", f"/channels/{id}/restart", b"no JSON")
        assert (answer.status, answer.body["description"], answer.body["result"]) == (
            200,
            "channel restarted",
            {},
        )
        side.of(id).publish("inbound", inbound(id))
        await side.receiver.received(1)


@pytest_twisted.ensureDeferred
async def test_startup(run_junebug: RunJunebug) -> None:
    """At the start every channel of the store runs."""
    options = redis_options()
    async with run_junebug(**options) as side:
        ids = [await side.create(mo_url=side.receiver.url("/mo")) for _ in range(3)]
    async with run_junebug(**options) as side:
        assert (await side.call("GET", "/channels/")).body["result"] == sorted(ids)
        for id in ids:
            side.of(id).publish("inbound", inbound(id))
        await side.receiver.received(3)


@pytest_twisted.ensureDeferred
async def test_prefix_and_authentication(run_junebug: RunJunebug) -> None:
    """Below ``base_path`` all of the API is behind ``api_auth``, but for health."""
    auth = {"users": {"jb": "pa55"}}
    async with run_junebug(channels_base_path="/jb", channels_api_auth=auth) as side:
        assert (await side.call("GET", "/health")).status == 200
        for method, below in (("GET", "/channels/"), ("GET", "/channels/x"), ("GET", "/routers/")):
            assert (await side.call(method, below)).status == 401
        known: Any = {"auth": ("jb", "pa55")}
        created = await side.call("POST", "/channels/", BODY, **known)
        assert created.status == 201
        id = created.body["result"]["id"]
        message = {"to": "+27", "content": "hi", "from": "8110"}
        assert (await side.call("POST", f"/channels/{id}/messages/", message)).status == 401
        assert (await side.call("POST", f"/channels/{id}/messages/", message, **known)).status == 201
        assert (await side.request("GET", "/channels/")).status == 404
