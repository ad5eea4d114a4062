"""New secrets without an outage: each of Turn's and of the webhooks' secrets is replaced while requests go on."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest_twisted
import standardwebhooks
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs

from junebug_turn.messages.vumi import Message
from tests.integration.conftest import RunDaemon
from tests.support import channels
from tests.support.channels import RunJunebug, redis_options
from tests.support.daemon import Running, settings, until
from tests.support.operators import Desk
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

OLD, NEW = [f"whsec_{base64.b64encode(bytes([number]) * 24).decode()}" for number in (1, 2)]
SENT = 20
"""Webhooks, and inbound messages, in each step."""


async def webhook(side: Running, secret: str, number: int) -> int:
    body = json.dumps({"to": "+27123", "turn": {"text": {"body": f"{number}"}}}).encode()
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    headers = {"X-Turn-Hook-Signature": signature}
    return (await side.request("POST", "/turn/messages", body, headers=headers)).status


@pytest_twisted.ensureDeferred
async def test_rotation(run_daemon: RunDaemon, rabbitmq: RabbitNode, receiver: Receiver) -> None:
    """Under load both secrets are configured, then the peer changes to the new one, then the old one is taken away:
    no webhook is refused, and each delivery is verified by a receiver with the secret that it has then, by the
    Standard Webhooks library."""
    base = {
        "vumi_api_path": "/turn",
        "turn_api_url": receiver.url("/v1"),
        "auth_token": "old token",
        "turn_hmac_secret": OLD,
        "webhook_secret": OLD,
        "default_from_addr": "8110",
    }
    # One in each line, as a file or a variable has several.
    both = {
        "turn_hmac_secret": f"{NEW}\n{OLD}",
        "webhook_secret": f"{NEW}\n{OLD}",
        "auth_token": "new token\nold token",
    }
    new = {"turn_hmac_secret": NEW, "webhook_secret": NEW, "auth_token": "new token"}
    steps: list[tuple[dict[str, Any], str, str]] = [
        ({}, OLD, "old token"),
        (both, OLD, "new token"),
        (both, NEW, "new token"),
        (new, NEW, "new token"),
    ]
    async with run_daemon("turn", **base) as side:
        for given, peer, token in steps:

            def read(given: dict[str, Any] = given) -> Any:
                return settings(rabbitmq, "turn", connector_name=side.connector, **(base | given))

            webhooks = [Deferred.fromCoroutine(webhook(side, peer, number)) for number in range(SENT)]
            side.daemon.renew_secrets(read)
            webhooks += [Deferred.fromCoroutine(webhook(side, peer, SENT + number)) for number in range(SENT)]
            receiver.requests.clear()
            for number in range(SENT):
                side.publish(
                    "inbound",
                    Message(
                        from_addr=f"+27{number}",
                        to_addr="1",
                        transport_name="t",
                        transport_type="sms",
                        content="hi",
                    ),
                )
            assert set(await gatherResults(webhooks)) == {200}
            for request in await receiver.received(SENT):
                assert request.headers["authorization"] == f"Bearer {token}"
                standardwebhooks.Webhook(peer).verify(request.body, request.headers)
        assert await webhook(side, OLD, 0) == 401


@pytest_twisted.ensureDeferred
async def test_rotation_for_operators(
    run_daemon: RunDaemon, rabbitmq: RabbitNode, receiver: Receiver, tmp_path: Path
) -> None:
    """admin_auth and its file are read again with the others: the new tokens and users are let in, the old ones no
    more.  Without any, or with a fault in them, the address stays as it was."""
    file = tmp_path / "admin-auth.yaml"
    options = {"mo_message_url": receiver.url(), "admin_bind": "localhost:0", "admin_auth_file": str(file)}
    old, new = {"Authorization": f"Token {OLD}"}, {"Authorization": f"Token {NEW}"}
    user = {"Authorization": f"Basic {base64.b64encode(f'anna:{NEW}'.encode()).decode()}"}

    async def let_in(at: Desk) -> list[bool]:
        asked = [await at.ask("GET", "/api/connectors", headers=headers) for headers in (old, new, user)]
        assert {answer.status for answer in asked} <= {200, 401}
        return [answer.status == 200 for answer in asked]

    file.write_text(json.dumps({"tokens": [OLD]}))
    async with run_daemon("junebug", **options) as side:
        at = Desk(side)

        def renew(**changes: Any) -> None:
            given = {name: value for name, value in (options | changes).items() if value is not None}
            side.daemon.renew_secrets(
                lambda: settings(rabbitmq, "junebug", connector_name=side.connector, **given)
            )

        assert await let_in(at) == [True, False, False]
        file.write_text(json.dumps({"tokens": [OLD, NEW]}))
        renew()
        assert await let_in(at) == [True, True, False]
        file.write_text(json.dumps({"users": {"anna": NEW}}))
        renew()
        assert await let_in(at) == [False, False, True]
        file.write_text("no mapping")
        with capturedLogs() as lines:
            renew()
        assert "the secrets can't be read again" in str([line["log_format"] for line in lines])
        renew(admin_auth_file=None)
        assert await let_in(at) == [False, False, True]


@pytest_twisted.ensureDeferred
async def test_rotation_for_channels(
    run_junebug: RunJunebug, rabbitmq: RabbitNode, junebug_vhost: str, receiver: Receiver
) -> None:
    """webhook_secret of channels.defaults is read again with the others: the channels that run, those that are changed
    and those that are made later sign with it."""
    options = {**redis_options(), "channels_defaults": {"webhook_secret": OLD}}
    async with run_junebug(**options) as side:
        running, changed = [await side.create(mo_url=receiver.url("/")) for _ in range(2)]
        new = options | {"channels_defaults": {"webhook_secret": NEW, "max_retries": 9}}
        side.daemon.renew_secrets(lambda: channels.settings(rabbitmq, junebug_vhost, **new))
        await side.call("POST", f"/channels/{changed}", {"character_limit": 9})
        made = await side.create(mo_url=receiver.url("/"))
        for number, channel in enumerate((running, changed, made), 1):
            side.of(channel).publish("inbound", channels.inbound(channel))
            request = (await receiver.received(number))[-1]
            standardwebhooks.Webhook(NEW).verify(request.body, request.headers)


@pytest_twisted.ensureDeferred
async def test_a_quota_for_channels(run_junebug: RunJunebug, receiver: Receiver) -> None:
    """delivery_rate_limit of channels.defaults is that of each channel's URL."""
    limit = {"delivery_rate_limit": {"calls": 1, "seconds": 3600}}
    options = {**redis_options(), "channels_defaults": limit}
    async with run_junebug(**options) as side:
        one, other = [await side.create(mo_url=receiver.url(path)) for path in ("/one", "/other")]
        for number in range(2):
            side.of(one).publish("inbound", channels.inbound(one, number))
        await until(lambda: side.daemon.health()["destinations"]["waiting"], "the quota's end")
        side.of(other).publish("inbound", channels.inbound(other))
        await receiver.received(2)
        assert sorted(request.path for request in receiver.requests) == ["/one", "/other"]
        assert list(side.daemon.health()["destinations"]["waiting"]) == [one]
