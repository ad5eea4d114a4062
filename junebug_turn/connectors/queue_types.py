"""Types of our own queues: the ones that hold delayed and parked messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DROPS_NOTHING: Mapping[str, Any] = {"x-overflow": "reject-publish"}
"""Arguments of a queue that refuses what a policy's max-length leaves no room for."""

OWN_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    # Parked queues had none in former versions, and can't be made anew.
    "default": {},
    "classic": {"x-queue-type": "classic", **DROPS_NOTHING},
    "quorum": {"x-queue-type": "quorum", **DROPS_NOTHING},
}
"""Arguments of our own queues, by their type: that of the virtual host, or one of RabbitMQ's."""

QUEUE_TYPES = tuple(OWN_ARGUMENTS)
