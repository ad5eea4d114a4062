"""Faults of secrets that are published in an example.

Tested by tests/unit/daemon/test_settings.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from junebug_turn.config.report import Report
from junebug_turn.config.types import each
from junebug_turn.http.listening import ListenAddress

PUBLISHED = frozenset({"demo-turn-hmac-secret", "demo-turn-token"})
"""Secrets that stood in an example file of this project, so that everybody knows them."""


def published_secrets(report: Report, address: Any) -> Iterator[str]:
    """Yield a fault for each secret of an application that is published, where other machines reach its address."""
    if isinstance(address, ListenAddress) and address.is_local:
        return
    for key, reported in report.items():
        if not reported.option.secret or not isinstance(reported.value, str | tuple):
            continue
        if PUBLISHED.intersection(each(reported.value)):
            yield (
                f"{key}: this one is published in an example, and other machines can reach {address}: make one of "
                f"your own ({reported.source})"
            )
