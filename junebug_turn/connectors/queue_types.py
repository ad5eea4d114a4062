"""Types of our own queues: the ones that hold delayed and parked messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OWN_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "classic": {"x-queue-type": "classic"},
    # What a policy's max-length leaves no room for is refused, not dropped.
    "quorum": {"x-queue-type": "quorum", "x-overflow": "reject-publish"},
}
"""Arguments of our own queues, by their type: that of the virtual host, or one of RabbitMQ's."""

QUEUE_TYPES = tuple(OWN_ARGUMENTS)
