"""The operators' address and the operator events, made from the settings.

Tested by tests/integration/test_operators.py and test_operator_events.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.topology import Queue
from junebug_turn.daemon.operators.events import OperatorEvents
from junebug_turn.daemon.operators.notifier import Notifier
from junebug_turn.daemon.operators.overview import State
from junebug_turn.daemon.operators.pausing import Pausing
from junebug_turn.daemon.operators.service import OperatorsService
from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.daemon.traces import Traces
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.http.admin.operators.api import OperatorsApi
from junebug_turn.http.admin.operators.guard import Guard
from junebug_turn.http.admin.operators.page import OperatorsPage
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.mounts import Mount
from junebug_turn.http.rate_limit import RateLimit
from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.rates import Rates

RATE_LIMIT = 50.0
"""Requests a second to the page and the API together."""


def make_operators(
    reactor: Any,
    options: DaemonOptions,
    *,
    applications: Mapping[str, str],
    health: Callable[[], Mapping[str, Mapping[str, Any]]],
    queues: Callable[[], Mapping[str, tuple[int, int]]],
    pausing: Pausing,
    traces: Traces,
    delay_queues: tuple[Queue, ...],
    metrics: Metrics,
) -> OperatorsService:
    """Make the service behind the page and the API.

    :param applications: connector -> word of its application; it can change
    :param health: returns the components of ``/health``
    :param queues: returns the latest counts of queues
    """
    state = State(applications, health, queues, pausing.is_paused, Rates(reactor, metrics))
    authenticator = Authenticator(options.admin_auth, for_browsers=True)
    return OperatorsService(
        reactor, options.amqp, applications, state, pausing, traces, delay_queues, authenticator
    )


def operators_mounts(
    reactor: Any, options: DaemonOptions, operators: OperatorsService, pages: Mapping[str, Mount]
) -> dict[str, Mount]:
    """Make the mounts of the operators' address: path -> mount.

    :param pages: those that other addresses may have, too
    """
    authenticator, rate_limit = operators.authenticator, RateLimit(reactor, RATE_LIMIT)
    api = OperatorsApi(operators, options.limits.max_json_depth)
    own = {"/api": api.router.resource(), "": OperatorsPage(operators, reactor).router.resource()}
    guarded = {
        path: Mount(Guard(resource, rate_limit, open_to_all=options.admin_auth is None))
        for path, resource in own.items()
    }
    return {
        path: attrs.evolve(mount, authenticator=authenticator) for path, mount in {**pages, **guarded}.items()
    }


def make_operator_events(
    reactor: Any, options: DaemonOptions, broker: Broker, deliverer: Deliverer, metrics: Metrics
) -> OperatorEvents | None:
    """Make the watch over these parts of the daemon; None without an ``operator_url``.

    :raises DeliveryRefused: the URL can't be used
    """
    if options.operator_url is None:
        return None
    notifier = Notifier(
        reactor,
        options.operator_url,
        options.operator_webhook_secret,
        proxies=options.proxies,
        metrics=metrics,
    )
    return OperatorEvents(
        reactor,
        notifier,
        broker=broker.status,
        circuits=deliverer.degraded,
        parked=metrics.take_parked,
    )
