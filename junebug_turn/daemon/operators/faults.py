"""Faults of the operators' address in a configuration.

Tested by tests/unit/daemon/test_settings.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from junebug_turn.config.report import Report
from junebug_turn.http.listening import ListenAddress


def address_faults(report: Report, others: Collection[Any]) -> Iterator[str]:
    """Yield a fault for each rule that ``admin_bind`` breaks.

    :param report: the options of the daemon
    :param others: the addresses of applications and channels
    """
    address, auth = report["admin_bind"], report["admin_auth"]
    if not isinstance(address.value, ListenAddress):
        return
    if address.value in others:
        yield f"admin_bind: {address.value} is the http_bind of an application too ({address.source})"
    if auth.value is None and not address.value.is_local:
        yield (
            f"admin_auth: required, since other machines may reach the admin_bind {address.value}: give tokens or "
            f"users, or take a loopback address or a socket file for it ({address.source})"
        )
