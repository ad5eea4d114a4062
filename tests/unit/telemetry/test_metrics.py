"""The metrics' names, labels and bounds; the dashboard and the alerts that use them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from junebug_turn.errors import FAILURE_REASONS, DeliveryRefused
from junebug_turn.http.deduplication import Deduplication
from junebug_turn.telemetry.context import about
from junebug_turn.telemetry.gauges import (
    AgeGauges,
    BrokerGauges,
    CertificateGauges,
    CircuitGauges,
    PartStats,
    StoreGauges,
    StoreStats,
    TurnGauges,
)
from junebug_turn.telemetry.metrics import Metrics

ETC = Path(__file__).parents[3] / "etc"
DASHBOARD, ALERTS = ETC / "grafana-dashboard.json", ETC / "prometheus-alerts.yaml"
# What Prometheus itself adds.
THEIRS = {"up"}


def full() -> Metrics:
    """Metrics of which each has a sample."""
    status = {"connected": True, "publishing": True, "blocked": False, "consumers": {"c.inbound": True}}
    stats = {"c": StoreStats({"inbound": PartStats(entries=1, bytes=500, evictions=2)}, failures=3)}
    metrics = Metrics(version="1.0", applications={"c": "junebug"})
    names = {"c": "junebug"}
    metrics.registry.register(BrokerGauges(lambda: status, lambda: {"c.inbound": (3, 1)}, applications=names))
    metrics.registry.register(AgeGauges(names, lambda: {"c.inbound": 3.0}))
    metrics.registry.register(CertificateGauges({"client_cert_file": lambda: 1.8e9}))
    metrics.registry.register(StoreGauges({"c": "junebug"}, lambda: stats))
    metrics.registry.register(
        CircuitGauges(frozenset({"http://a:1", "http://b:1"}), lambda: ["http://a:1", "http://y:1"])
    )
    metrics.registry.register(TurnGauges({"c": "junebug"}, dict))
    metrics.request("c", "200", 0.1)
    metrics.repeated("c")
    metrics.show_deduplication("c", Deduplication(Clock(), 60, 60))
    metrics.published("c", 0.1, confirmed=True)
    of = ("c", "inbound")
    with metrics.delivery(*of), metrics.attempt(*of) as attempt:
        attempt.result = "ok"
    metrics.retried(*of, "timeout")
    metrics.delayed(*of, "timeout")
    metrics.parked(*of, "timeout")
    return metrics


def text_of(metrics: Metrics) -> str:
    return b"".join(metrics.text()).decode("utf-8")


def samples(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text_of(metrics)):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_names() -> None:
    """Every metric of ours has the prefix, help, and a unit or a plain word at its end; counters end in _total."""
    for family in text_string_to_metric_families(text_of(full())):
        if family.name.startswith(("process_", "python_")):
            continue
        assert family.name.startswith("junebug_turn")
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)


def test_pieces() -> None:
    """The text in pieces is the one that the library makes at once, and none of the pieces is large."""
    names = {f"c{number}": "junebug" for number in range(300)}
    metrics = Metrics(version="1.0", applications=names)
    for name in names:
        metrics.begin(name)
        metrics.published(name, 0.1, confirmed=True)
    whole = generate_latest(metrics.registry)
    pieces = list(metrics.text())
    # The process's own figures change meanwhile.
    ours = [line for line in whole.splitlines() if b"junebug_turn" in line]
    assert [line for line in b"".join(pieces).splitlines() if b"junebug_turn" in line] == ours
    assert max(piece.count(b"\n") for piece in pieces) <= 1002 < max(len(ours), 5000)


def test_counters_begin_at_0() -> None:
    """Each counter of a connector has a 0 before its first count, for all labels known before: else ``increase()``
    doesn't see the first messages that are parked."""
    metrics = Metrics(applications={"c": "junebug"})
    metrics.begin("c")
    before = samples(metrics)
    for reason in (*FAILURE_REASONS, "error", "session_expired", "unreadable"):
        for kind in ("inbound", "event"):
            labels = {"application": "junebug", "connector": "c", "kind": kind, "reason": reason}
            assert (labels, 0) in before["junebug_turn_parked_messages_total"]
    for confirmed in (True, False):
        metrics.published("c", 0.1, confirmed=confirmed)
    for kind in ("inbound", "event"):
        for fault in (None, "timeout", "error", "cancelled"):
            with suppress(Exception, GeneratorExit), metrics.delivery("c", kind):
                if fault == "timeout":
                    raise DeliveryRefused(
                        "x", reason=fault, last_status=None, attempts=1, first_failure=0, last_failure=0
                    )
                if fault is not None:
                    raise ValueError if fault == "error" else GeneratorExit
        for reason in (*FAILURE_REASONS, "error"):
            metrics.delayed("c", kind, reason)
    metrics.repeated("c")
    for name, values in samples(metrics).items():
        if name.startswith("junebug_turn") and name.endswith("_total"):
            assert [labels for labels, _ in values] == [labels for labels, _ in before[name]]


def test_no_globals() -> None:
    """Two daemons in one process count apart."""
    one, two = full(), full()
    one.request("c", "200", 0.1)
    assert samples(one)["junebug_turn_http_requests_total"][0][1] == 2
    assert samples(two)["junebug_turn_http_requests_total"][0][1] == 1


def test_labels_are_arguments() -> None:
    """A delivery counts for the connector and kind that it is given, whatever the log lines are about."""
    metrics = Metrics(applications={"c": "junebug", "other": "turn"})
    with about(connector="other", kind="event"), metrics.delivery("c", "inbound"):
        pass
    ((labels, _),) = samples(metrics)["junebug_turn_deliveries_total"]
    assert (labels["application"], labels["connector"], labels["kind"]) == ("junebug", "c", "inbound")


def test_stored_results() -> None:
    """What is stored for repeats is shown as it is at the time of the scrape."""
    deduplication = Deduplication(Clock(), 60, 60)

    async def work(_: Any) -> bytes:
        return b"x" * 1000

    metrics = Metrics(applications={"c": "junebug"})
    metrics.show_deduplication("c", deduplication)
    found = []
    for key in (b"1", b"2"):
        found.append(
            [samples(metrics)[f"junebug_turn_known_requests{name}"][0][1] for name in ("", "_bytes")]
        )
        deduplication.run(key, work)
    assert found == [[0, 0], [1, 1500]]


def test_unknown_connector() -> None:
    """A connector that no application has makes no label value of its own."""
    metrics = full()
    for number in range(5):
        metrics.parked(f"x{number}", "inbound", "timeout")
    labels = [labels["connector"] for labels, _ in samples(metrics)["junebug_turn_parked_messages_total"]]
    assert sorted(labels) == ["", "c"]


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (None, "delivered"),
        (ValueError(), "error"),
        (
            DeliveryRefused("x", reason="dns", last_status=None, attempts=1, first_failure=0, last_failure=0),
            "dns",
        ),
    ],
)
def test_results(fault: Exception | None, result: str) -> None:
    """A delivery counts as delivered, as what failed it, or as an error of ours."""
    metrics = Metrics(applications={"c": "junebug"})
    try:
        with metrics.delivery("c", "event"):
            if fault is not None:
                raise fault
    except Exception as error:
        if error is not fault:
            raise
    ((labels, value),) = samples(metrics)["junebug_turn_deliveries_total"]
    assert (labels["result"], value) == (result, 1)


def expressions() -> Iterator[tuple[str, str]]:
    """Where, and the PromQL that stands there."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_dashboard_and_alerts(where: str, expression: str) -> None:
    """Every metric and every label of the dashboard and the alerts exists."""
    there = samples(full())
    names = re.findall(r"\b(?:junebug_turn_|process_|python_|up\b)\w*", expression)
    assert names, where
    for name in names:
        assert name in there or name in THEIRS, f"{where}: {name}"
    labels = {label for name in names for values, _ in there.get(name, ()) for label in values}
    used = {
        label.strip()
        for inner in re.findall(r"\{([^}]*)\}", expression)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inner)
    }
    for grouped in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        used |= {label.strip() for label in grouped.split(",")}
    assert used <= labels | {"instance", "job"}, where


def test_every_metric_is_shown() -> None:
    """Every metric of ours stands in the dashboard or in an alert, and in docs/operations.md."""
    text = " ".join(expression for _, expression in expressions())
    page = (ETC.parent / "docs" / "operations.md").read_text()
    for family in text_string_to_metric_families(text_of(full())):
        if family.name.startswith("junebug_turn"):
            assert family.name in text, family.name
            assert f"`{family.name.removeprefix('junebug_turn_')}" in page or family.name in page, family.name


def test_a_connector_that_is_no_more() -> None:
    """The series of a connector that is no more are gone, and those of others stay: channels come and go for ever."""
    applications = {"a": "junebug", "b": "junebug"}
    metrics = Metrics(applications=applications)
    for name in ("a", "b"):
        metrics.request(name, "201", 0.1)
        metrics.published(name, 0.1, confirmed=True)
    metrics.forget("a")
    text = text_of(metrics)
    assert 'connector="a"' not in text
    assert 'connector="b"' in text
    metrics.request("a", "201", 0.1)
    assert text_of(Metrics(applications=applications))
