"""Series of a metric by connector.

Tested by tests/unit/telemetry/test_metrics.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from prometheus_client import Counter, Histogram

_M = TypeVar("_M", Counter, Histogram)


class Series(dict[tuple[str, ...], _M]):
    """Series of one metric by connector and further labels, looked up by their labels only once: that costs more
    than counting.

    :param applications: connector -> word of its application; other connectors are one, without a name
    """

    def __init__(self, metric: Any, applications: Mapping[str, str]) -> None:
        super().__init__()
        self._metric = metric
        self._applications = applications

    def __missing__(self, key: tuple[str, ...]) -> _M:
        connector, *labels = key
        application = self._applications.get(connector, "")
        if connector and not application:
            return self["", *labels]
        series: Any = self._metric.labels(application, connector, *labels)
        self[key] = series
        return cast(_M, series)

    def forget(self, connector: str) -> None:
        """Drop the series of a connector."""
        application = self._applications.get(connector, "")
        for key in [key for key in self if key[0] == connector]:
            del self[key]
            self._metric.remove(application, *key)
