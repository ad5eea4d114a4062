"""Connections to the broker and the destinations, and the words for those that fail."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from junebug_turn.cli.connectivity import reach
from junebug_turn.daemon.settings import load
from tests.support.certificates import Authority
from tests.support.configurations import JUNEBUG, TURN
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

reactor: Any = _reactor


@pytest_twisted.ensureDeferred
async def test_what_can_t_be_reached(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """A wrong password, a closed port, a peer that says nothing and a certificate of nobody are each told."""
    authority = Authority(tmp_path)
    strange = Receiver(reactor, tls=authority.server("localhost"))
    strange.start()
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        options = {
            "http_bind": "127.0.0.1:0",
            "amqp_hostname": rabbitmq.host,
            "amqp_port": str(rabbitmq.port),
            "amqp_password": "s3cret-amqp",
            "applications": json.dumps(
                [
                    JUNEBUG
                    | {
                        "mo_message_url": f"http://127.0.0.1:{free_port()}/",
                        "default_event_url": f"https://127.0.0.1:{silent.getsockname()[1]}/",
                    },
                    TURN | {"turn_api_url": f"https://localhost:{strange.port}/"},
                ]
            ),
        }
        found = await reach(reactor, load(options, {}), 2)
    finally:
        silent.close()
        await strange.stop()
    assert [(each.what, each.application) for each in found] == [
        ("broker", None),
        ("mo_message_url", "sms"),
        ("default_event_url", "sms"),
        ("turn_api_url", "ussd"),
    ]
    faults = [str(each.fault) for each in found]
    assert "ACCESS_REFUSED" in faults[0]
    assert "refused" in faults[1]
    assert "no answer within 2 seconds" in faults[2]
    assert "certificate" in faults[3]
    assert "s3cret" not in "".join(faults)


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
@pytest_twisted.ensureDeferred
async def test_https_is_verified(host: str, rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """A destination of a private PKI is reached with its ca_file, by its name."""
    name = host.strip("[]")
    authority = Authority(tmp_path)
    server = Receiver(reactor, tls=authority.server(name), interface="::1" if name == "::1" else "127.0.0.1")
    server.start()
    try:
        options = {"ca_file": str(authority.ca_file), "amqp_url": rabbitmq.url}
        url = f"https://{host}:{server.port}/"
        settings = load({**JUNEBUG, **options, "mo_message_url": url}, {})
        assert [each.fault for each in await reach(reactor, settings, 5)] == [None, None]
    finally:
        await server.stop()
