"""The servers of the daemon, one for each address, with what is mounted there.

Tested by tests/unit/daemon/test_build.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junebug_turn.daemon.openapi import daemon_document
from junebug_turn.daemon.operators.build import operators_mounts
from junebug_turn.daemon.operators.service import OperatorsService
from junebug_turn.daemon.process import connections_within
from junebug_turn.daemon.settings import Settings
from junebug_turn.http.admin.metrics import MetricsPage
from junebug_turn.http.admin.openapi import OpenApiPage
from junebug_turn.http.connection_limits import ConnectionLimits
from junebug_turn.http.listening import ListenAddress
from junebug_turn.http.mounts import Mount
from junebug_turn.http.server import ApiSite
from junebug_turn.telemetry.metrics import Metrics


def make_sites(
    reactor: Any,
    settings: Settings,
    metrics: Metrics,
    mounts: Mapping[str, Mount],
    common: Mapping[str, Mount],
    operators: OperatorsService | None,
    descriptors: int,
) -> dict[ListenAddress, ApiSite]:
    """Make a site for each address.

    :param mounts: connector -> the mount of its application
    :param common: path -> the mount of a page that is at every address but ``metrics_bind``
    :param operators: None where they have no address
    :param descriptors: how many files and connections the process may have open
    """
    daemon = settings.daemon
    limits, metrics_bind = daemon.limits, daemon.metrics_bind
    most = connections_within(settings, descriptors)
    connections = ConnectionLimits(reactor, most, limits.max_connections_per_client)
    pages: dict[ListenAddress, dict[str, Mount]] = {}
    if settings.channels is not None:
        pages[settings.channels.http_bind] = dict(common)
    for options in settings.applications:
        there = pages.setdefault(options.http_bind, dict(common))
        there[options.path] = mounts[options.connector_name]
    metrics_page = Mount(MetricsPage(metrics, reactor))
    for there in (pages.setdefault(metrics_bind, {}),) if metrics_bind else pages.values():
        there.setdefault(MetricsPage.path, metrics_page)
    if daemon.admin_bind is not None and operators is not None:
        shared = {**common, MetricsPage.path: metrics_page}
        shared[OpenApiPage.path] = Mount(OpenApiPage(lambda: daemon_document(settings)))
        pages[daemon.admin_bind] = operators_mounts(reactor, daemon, operators, shared)
    return {
        address: ApiSite(there, reactor, limits=limits, connections=connections, metrics=metrics)
        for address, there in pages.items()
    }
