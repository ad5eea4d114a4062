"""What the integration tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from twisted.internet import reactor

from tests.receiver import Receiver


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[Receiver]:
    """The HTTP server that the daemon delivers to."""
    server: Any = Receiver(reactor)
    server.start()
    yield server
    await server.stop()
