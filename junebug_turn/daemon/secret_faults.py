"""Faults of secrets in a configuration: one that another hides, and one that is published.

Tested by tests/unit/daemon/test_settings.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from junebug_turn.config.option import Schema
from junebug_turn.config.report import Report
from junebug_turn.config.sources import Given, Layer
from junebug_turn.config.types import each
from junebug_turn.http.listening import ListenAddress

PUBLISHED = frozenset({"demo-turn-hmac-secret", "demo-turn-token"})
"""Secrets that stood in an example file of this project, so that everybody knows them."""


def shadowed_secrets(schema: Schema, entry: Layer, above: Layer) -> Iterator[str]:
    """Yield a fault for each secret of an entry of ``applications`` that the environment or a flag gives too.

    The entry counts, which who sets a variable to replace a secret doesn't see.

    :param above: the layer of the environment and the command line
    """
    secrets = {each.path[0] for each in schema.entries if each.option.secret}
    for key in [key for key in entry if key in secrets and key in above]:
        yield from _shadowed(key, entry[key], above[key])


def _shadowed(key: str, given: Given, above: Given) -> Iterator[str]:
    if isinstance(given.value, dict) and isinstance(above.value, dict):
        # Mappings are merged; of one that may hold a secret it is the URL that does.
        for name in given.value.keys() & above.value.keys():
            if name == "url":
                yield from _shadowed(f"{key}.{name}", given.value[name], above.value[name])
        return
    yield f"{key}: given twice, and it can't be both ({given.source}; {above.sources}): take one of them away"


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
