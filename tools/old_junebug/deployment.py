"""An old deployment of Junebug: its definitions, its messages, and the commands that put them into a Redis.

They are as Junebug 0.2 had them (``junebug/stores.py``).

Tested by tests/integration/test_old_deployment.py.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from attrs import define, field

CHANNELS = 40
INBOUND_TTL, OUTBOUND_TTL = 600, 172800
MESSAGES = 3
"""Messages of each channel in each direction."""

Command = tuple[str, ...]

_CONFIGS: dict[str, dict[str, Any]] = {
    "smpp": {
        "twisted_endpoint": "tcp:host=smsc.example.org:port=2775",
        "system_id": "clinic",
        "password": "sms-word",
        "system_type": "",
        "interface_version": "34",
        "smpp_enquire_link_interval": 30,
        "dest_addr_ton": 1,
        "dest_addr_npi": 1,
        "registered_delivery": 1,
        "submit_short_message_processor_config": {"send_multipart_udh": True},
        "mt_tps": 20,
    },
    "dmark": {"web_path": "/dmark", "web_port": 8090},
    "telnet": {"twisted_endpoint": "tcp:9001"},
    "xmpp": {
        "host": "xmpp.example.org",
        "port": 5222,
        "username": "clinic",
        "password": "word",
        "status": "on",
    },
    "aat_ussd": {"web_path": "/aat", "web_port": 8091, "base_url": "https://ussd.example.org"},
    "whatsapp": {"phone": "27820000000", "cc": "27", "password": "word"},
}
_TYPES = ("smpp",) * 5 + ("aat_ussd", "dmark", "telnet", "xmpp", "whatsapp")


@define
class Deployment:
    """An old deployment: the definitions, and the messages to try.

    :ivar channels: id -> properties
    :ivar routers: id -> its definition
    :ivar destinations: id of a destination -> its router and its definition
    :ivar received: channel -> message id of one that can be replied to
    :ivar sent: channel -> message id of one that an event may come for
    """

    channels: dict[str, dict[str, Any]] = field(factory=dict)
    routers: dict[str, dict[str, Any]] = field(factory=dict)
    destinations: dict[str, tuple[str, dict[str, Any]]] = field(factory=dict)
    received: dict[str, str] = field(factory=dict)
    sent: dict[str, str] = field(factory=dict)

    @classmethod
    def of(cls, url: str) -> Deployment:
        """Make a deployment whose messages and events go to paths below a URL."""
        made = cls()
        for number in range(CHANNELS - 2):
            made.channels[str(uuid.uuid4())] = _channel(number, url)
        for number in range(2):
            channel, router = str(uuid.uuid4()), str(uuid.uuid4())
            made.channels[channel] = {"type": "smpp", "label": f"shared {number}", "config": _CONFIGS["smpp"]}
            made.routers[router] = {"type": "from_address", "label": "codes", "config": {"channel": channel}}
            for code in ("8110", "8120"):
                id = str(uuid.uuid4())
                made.destinations[id] = (
                    router,
                    {
                        "label": code,
                        "config": {"regular_expression": f"^{code}$"},
                        "mo_url": f"{url}/destinations/{id}",
                    },
                )
        return made

    def commands(self, url: str, prefix: str = "") -> Iterator[Command]:
        """Yield the commands that put it into a Redis; message ids are noted on the way."""
        start = f"{prefix}:" if prefix else ""
        for id, properties in self.channels.items():
            yield "SADD", f"{start}channels", id
            yield "SET", f"{start}{id}:properties", json.dumps(properties)
            status = _status(properties["type"])
            yield "HSET", f"{start}{id}:status", status["component"], json.dumps(status)
            if "mo_url" in properties or "amqp_queue" in properties:
                yield from self._messages(f"{start}{id}", id, id, properties["type"], url, "8110")
        for id, router in self.routers.items():
            yield "SADD", f"{start}routers", id
            yield "SET", f"{start}routers:{id}", json.dumps(router)
        for id, (router_id, destination) in self.destinations.items():
            members = f"{start}routers:{router_id}:destinations"
            yield "SADD", members, id
            yield "SET", f"{members}:{id}", json.dumps(destination)
            channel = self.routers[router_id]["config"]["channel"]
            kind = self.channels[channel]["type"]
            yield from self._messages(f"{start}{id}", id, channel, kind, url, destination["label"])

    def _messages(self, key: str, id: str, channel: str, kind: str, url: str, code: str) -> Iterator[Command]:
        for number in range(MESSAGES):
            message = _received(channel, kind, number, code)
            self.received[id] = message["message_id"]
            inbound = f"{key}:inbound_messages:{message['message_id']}"
            yield "HSET", inbound, "message", json.dumps(message)
            yield "EXPIRE", inbound, str(INBOUND_TTL)
            request = _sent(channel, number, f"{url}/events/{id}", code)
            self.sent[id] = request["message_id"]
            outbound = f"{key}:outbound_messages:{request['message_id']}"
            yield "HSET", outbound, "message", json.dumps(request)
            event = _event(channel, request["message_id"])
            yield "HSET", outbound, event["event_id"], json.dumps(event)
            yield "EXPIRE", outbound, str(OUTBOUND_TTL)
            if id != channel:
                # The router's own copy, by which it finds the destination of an event.
                copy = f"{key.removesuffix(id)}{channel}:outbound_messages:{request['message_id']}"
                yield "HSET", copy, "message", json.dumps(request)
                yield "EXPIRE", copy, str(OUTBOUND_TTL)


def _channel(number: int, url: str) -> dict[str, Any]:
    """Return the properties of a channel, which differ as those of a grown deployment do."""
    kind = _TYPES[number % len(_TYPES)]
    properties: dict[str, Any] = {"type": kind, "label": f"{kind} {number}", "config": _CONFIGS[kind]}
    if number % 7 != 3:
        properties["mo_url"] = f"{url}/inbound/{number}"
    if number % 7 in (3, 5):
        properties["amqp_queue"] = f"app{number}"
    if number % 3 == 1 and "mo_url" in properties:
        properties["mo_url_auth_token"] = f"token-of-channel-{number}"
    if number % 5 == 2:
        properties |= {"character_limit": 160, "rate_limit_count": 10, "rate_limit_window": 1}
    if number % 5 == 4:
        properties |= {"status_url": f"{url}/status/{number}", "metadata": {"owner": "clinic"}}
    return properties


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _vumi(message_type: str, **fields: Any) -> dict[str, Any]:
    return {
        "message_version": "20110921",
        "message_type": message_type,
        "timestamp": _now(),
        "helper_metadata": {},
        "routing_metadata": {},
        **fields,
    }


def _phone() -> str:
    return f"+2782{random.randrange(10**7):07}"  # nosec B311


def _received(channel: str, kind: str, number: int, code: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("group", "in_reply_to", "session_event", "provider", "to_addr_type"))
    return _vumi(
        "user_message",
        message_id=uuid.uuid4().hex,
        to_addr=code,
        from_addr=_phone(),
        from_addr_type="msisdn",
        content=f"question {number}",
        transport_name=channel,
        transport_type="ussd" if kind in ("aat_ussd", "dmark") else "sms",
        transport_metadata={},
        **nothing,
    )


def _sent(channel: str, number: int, event_url: str, code: str) -> dict[str, Any]:
    return {
        "to": _phone(),
        "from": code,
        "group": None,
        "reply_to": None,
        "content": f"answer {number}",
        "event_url": event_url,
        "event_auth_token": "event-token",
        "channel_data": {},
        "message_id": uuid.uuid4().hex,
        "channel_id": channel,
        "timestamp": _now(),
    }


def _event(channel: str, message_id: str) -> dict[str, Any]:
    return _vumi(
        "event",
        event_id=uuid.uuid4().hex,
        event_type="ack",
        user_message_id=message_id,
        sent_message_id=message_id,
        transport_name=channel,
        transport_metadata={},
    )


def _status(kind: str) -> dict[str, Any]:
    return _vumi(
        "status_event",
        reasons=[],
        details={},
        component=kind,
        status="ok",
        type="bound" if kind == "smpp" else "request_parsed",
        message="well",
    )
