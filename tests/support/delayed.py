"""Delayed messages as tests see them: those of one queue, among all in the delay queues that connectors share.

Tests name them ``{connector}.inbound.delayed.30s``: what waits in ``junebug-turn.delay.30s`` to go back to
``{connector}.inbound``.
"""

from __future__ import annotations

import re
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

_NAME = re.compile(r"(?P<queue>.+)\.delayed\.(?P<delay>\w+)")


def is_delayed(name: str) -> bool:
    """Whether ``name`` means messages that are delayed."""
    return _NAME.fullmatch(name) is not None


def look(channel: BlockingChannel, name: str) -> list[tuple[Any, Any, bytes]]:
    """The method, the properties and the body of each of them; all stay."""
    return _walk(channel, name, take=False)


def take(channel: BlockingChannel, name: str) -> list[tuple[Any, Any, bytes]]:
    """The same, and they are gone."""
    return _walk(channel, name, take=True)


def _walk(channel: BlockingChannel, name: str, *, take: bool) -> list[tuple[Any, Any, bytes]]:
    match = _NAME.fullmatch(name)
    assert match is not None
    own, found = channel.connection.channel(), []
    try:
        while True:
            method, properties, body = own.basic_get(f"junebug-turn.delay.{match['delay']}")
            if method is None:
                break
            if method.routing_key == match["queue"]:
                found.append((method, properties, body))
                if take:
                    own.basic_ack(method.delivery_tag)
    except ChannelClosedByBroker:
        return []
    own.close()
    return found
