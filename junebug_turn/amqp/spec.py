"""The table of AMQP 0-9-1's methods and properties, which txamqp does not bring along."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from txamqp import spec as txspec


@cache
def load() -> Any:
    """AMQP 0-9-1 with RabbitMQ's extensions, as a ``txamqp.spec.Spec``; parsed once."""
    text = resources.files(__package__).joinpath("amqp0-9-1.xml").read_bytes()
    return txspec.load_string(text, "amqp0-9-1.xml")
