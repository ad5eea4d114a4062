"""Types of our own queues: the ones that hold delayed and parked messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPE_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "classic": {"x-queue-type": "classic"},
    "quorum": {"x-queue-type": "quorum"},
}
"""Arguments of our own queues, by their type: that of the virtual host, or one of RabbitMQ's."""

DROPS_NOTHING: Mapping[str, Any] = {"x-overflow": "reject-publish"}
"""Arguments of a quorum queue that refuses what a policy's max-length leaves no room for."""

CONFIRMS_RETURNS: Mapping[str, Any] = {**DROPS_NOTHING, "x-dead-letter-strategy": "at-least-once"}
"""The same of one whose messages return: each stays until the broker has a confirm, so that none is lost where its own
queue is full, or has no leader yet as the broker starts."""

QUEUE_TYPES = tuple(TYPE_ARGUMENTS)
