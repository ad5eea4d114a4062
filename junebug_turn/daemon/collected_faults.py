"""Collection of the faults of a configuration's parts, so that the start ends with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from junebug_turn.errors import ConfigError, DeliveryRefused


@contextmanager
def collected(faults: list[str], place: str = "") -> Iterator[None]:
    """Add the lines of a fault within to ``faults``, each with its place, and go on."""
    try:
        yield
    except (ConfigError, DeliveryRefused) as error:
        faults += [f"{line}{place}" for line in str(error).splitlines()]
