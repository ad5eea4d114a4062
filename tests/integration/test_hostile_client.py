"""What a client of an API can cost, which is a stranger where there is no ``api_auth``."""

from __future__ import annotations

import json
import threading
import time

import pytest

from junebug_turn.messages.vumi import Event
from tests.conftest import pika_connection
from tests.integration.test_hostile import Make, daemon, error_of, make
from tests.support.attack import LARGE, MEGABYTE, attack
from tests.support.hostile import JUNEBUG, TURN, Client, HostileDaemon
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode

__all__ = ["daemon", "make"]  # the fixtures


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (JUNEBUG, "to"),
        (JUNEBUG, "from"),
        (JUNEBUG, "group"),
        (JUNEBUG, "reply_to"),
        (JUNEBUG, "event_url"),
        (JUNEBUG, "event_auth_token"),
        (TURN, "to"),
        (TURN, "from"),
        (TURN, "reply_to"),
    ],
)
def test_fields_that_are_remembered(daemon: HostileDaemon, path: str, field: str) -> None:
    """What is remembered of a message has a length; a longer one is a 400 that names the field, and costs nothing."""
    start = "http://127.0.0.1:9/" if field == "event_url" else ""
    with attack(daemon, memory=16 * MEGABYTE), daemon.client() as client:
        for number in range(300 if LARGE else 20):
            body: dict[str, object] = {"to": "+27123", "content": "c", "turn": {"text": {"body": "c"}}}
            if path == JUNEBUG:
                del body["turn"]
            body[field] = f"{start}{number}{'x' * 250_000}"
            answer = client.post(path, json.dumps(body).encode())
            assert error_of(answer) == (400, "invalid_body")
            assert f"'{field}'" in json.dumps(answer[1])


def test_nested_json_of_many(daemon: HostileDaemon) -> None:
    """JSON that takes long to read, on many connections at once, leaves turns for others."""
    body = b'{"to":"+27123","content":"c","channel_data":{"x":[' + b"[]," * 80_000 + b"[]]}, 1}"
    clients = [daemon.client() for _ in range(50)]
    with attack(daemon):
        senders = [threading.Thread(target=_post_often, args=(client, body)) for client in clients]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()


def _post_often(client: Client, body: bytes) -> None:
    with client:
        for _ in range(20 if LARGE else 2):
            assert error_of(client.post(JUNEBUG, body)) == (400, "JsonDecodeError")


def test_destinations_of_others(make: Make, rabbitmq: RabbitNode) -> None:
    """``/health`` shows nobody where other clients' events go, nor whether something answers there."""
    daemon = make()
    secret = f"http://127.0.0.1:{free_port()}"
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    with daemon.client() as client:
        for number in range(12):
            body = {"to": "+27123", "content": "c", "event_url": f"{secret}/{number}"}
            status, answer = client.post(JUNEBUG, json.dumps(body).encode())
            assert status == 201
            event = Event(
                user_message_id=answer["result"]["message_id"], event_type="ack", event_id=f"e{number}"
            )
            channel.basic_publish("vumi", f"{daemon.name}.event", event.to_json())
        connection.close()
        end = time.monotonic() + 60
        while True:
            client.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            _, health = client.answer()
            assert secret not in json.dumps(health)
            found = health["components"]["destinations"]
            if found["state"] == "degraded":
                break
            assert time.monotonic() < end
            time.sleep(0.1)
    assert (found["origins"], found["others"]) == ({}, 1)
