"""Series of a metric by connector.

Tested by tests/unit/telemetry/test_metrics.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from attrs import frozen
from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_M = TypeVar("_M", Counter, Histogram)


class Series(dict[tuple[str, ...], _M]):
    """Series of one metric by connector and further labels, looked up by their labels only once: that costs more
    than counting.

    :ivar metric: the metric of the library
    :param applications: connector -> word of its application; other connectors are one, without a name
    """

    def __init__(self, metric: Any, applications: Mapping[str, str]) -> None:
        super().__init__()
        self.metric = metric
        self._applications = applications

    def __missing__(self, key: tuple[str, ...]) -> _M:
        connector, *labels = key
        application = self._applications.get(connector, "")
        if connector and not application:
            return self["", *labels]
        series: Any = self.metric.labels(application, connector, *labels)
        self[key] = series
        return cast(_M, series)

    def forget(self, connector: str) -> None:
        """Drop the series of a connector."""
        application = self._applications.get(connector, "")
        for key in [key for key in self if key[0] == connector]:
            del self[key]
            self.metric.remove(application, *key)


@frozen(eq=False)
class FromZero(Collector):
    """A counter with a 0 for each series of a connector that has no count yet.

    The zeros are made at the scrape: as series of the library they would cost each connector 60 kB and a millisecond of
    its start.

    :ivar names: the names of all labels
    :ivar applications: connector -> word of its application
    :ivar begun: the connectors
    :ivar known: the values of the further labels
    """

    metric: Any
    names: tuple[str, ...]
    applications: Mapping[str, str]
    begun: Iterable[str]
    known: Collection[tuple[str, ...]]

    def describe(self) -> Iterable[Metric]:
        described: Iterable[Metric] = self.metric.describe()
        return described

    def collect(self) -> Iterator[Metric]:
        for family in self.metric.collect():
            counted = {tuple(sample.labels.values()): sample for sample in family.samples}
            samples = []
            for connector in self.begun:
                application = self.applications.get(connector, "")
                for labels in self.known if application else ():
                    values = (application, connector, *labels)
                    samples.append(counted.pop(values, None) or self._zero(family, values))
            family.samples = [*samples, *counted.values()]
            yield family

    def _zero(self, family: Metric, values: tuple[str, ...]) -> Sample:
        return Sample(f"{family.name}_total", dict(zip(self.names, values, strict=True)), 0.0)
