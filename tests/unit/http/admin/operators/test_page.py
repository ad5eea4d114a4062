"""The operators' page of many connectors: its time."""

from __future__ import annotations

import time
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyRequest

from junebug_turn.daemon.operators.overview import State
from junebug_turn.http.admin.operators.page import OperatorsPage
from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.rates import Rates

CONNECTORS = 500


@pytest_twisted.ensureDeferred
async def test_many_connectors() -> None:
    """The page of 500 connectors takes the server less than a second."""
    names = [f"connector-{number}" for number in range(CONNECTORS)]
    queues = {
        f"{name}.{kind}": (3, 1)
        for name in names
        for kind in ("inbound", "event", "outbound", "inbound.parked", "event.parked")
    }
    amqp = {
        "connected": True,
        "publishing": True,
        "blocked": False,
        "consumers": {queue: True for queue in queues if "parked" not in queue},
    }
    health = {
        "amqp": amqp,
        "destinations": {"origins": {}, "others": 0},
        "cache": {"state": "ok"},
    }
    rates = Rates(Clock(), Metrics())
    operators: Any = State(
        dict.fromkeys(names, "junebug"), lambda: health, lambda: queues, lambda name: False, rates
    )
    request: Any = DummyRequest([])
    request.uri = b"/"
    # The processor's time: that of the clock says how busy the machine is.
    start = time.process_time()
    body = await OperatorsPage(operators, reactor).overview(request)
    assert time.process_time() - start < 1
    assert b"1 to 100 of 500" in body
