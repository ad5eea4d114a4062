"""Permissions to write, for which RabbitMQ has no question.

Tested by tests/unit/amqp/test_examination.py and tests/integration/test_amqp_limits.py.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any

from junebug_turn.amqp.channel import Channel

NO_QUEUE = "junebug-turn.no-such-queue"
"""A name that no queue has."""

PERMISSION = "permission to write to the exchange "
"""Beginning of the name of such a permission."""


def ask_to_write(exchange: str, source: str) -> Callable[[Channel], Any]:
    """Make the call that RabbitMQ refuses where the user may not write to an exchange, and that changes nothing.

    To remove a binding asks for this permission, also where there is no such binding.

    :param source: an exchange that the user may read from
    """
    return methodcaller("exchange_unbind", destination=exchange, source=source, routing_key=NO_QUEUE)


def fault(what: str, why: str) -> str:
    """Say what the broker doesn't give: a permission, or else an exchange, a queue or a binding."""
    lack = "is missing" if what.startswith(PERMISSION) else "can't be declared"
    return f"the {what} {lack}: {why}"
