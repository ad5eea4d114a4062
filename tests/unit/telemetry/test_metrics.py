"""The metrics' names, labels and bounds; the dashboard and the alerts that use them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from junebug_turn.errors import DeliveryRefused
from junebug_turn.state.message_store import CacheStats, PartStats
from junebug_turn.telemetry.context import about
from junebug_turn.telemetry.gauges import OTHER, State
from junebug_turn.telemetry.metrics import Metrics

ETC = Path(__file__).parents[3] / "etc"
DASHBOARD, ALERTS = ETC / "grafana-dashboard.json", ETC / "prometheus-alerts.yaml"
# What Prometheus itself adds.
THEIRS = {"up"}


def full() -> Metrics:
    """Metrics of which each has a sample."""
    state = State(
        {"connected": True, "publishing": True, "blocked": False, "consumers": {"c.inbound": True}},
        {"c.inbound": (3, 1)},
        {"c": CacheStats({"inbound": PartStats(entries=1, evictions=2)}, failures=3)},
        {"http://a:1": True, "http://x:1": False, "http://y:1": True},
    )
    metrics = Metrics(
        version="1.0",
        applications={"c": "junebug"},
        origins=["http://a:1", "http://b:1"],
        state=lambda: state,
    )
    metrics.request("c", "200", 0.1)
    metrics.repeated("c")
    metrics.published("c", 0.1, confirmed=True)
    with about(connector="c", kind="inbound"):
        with metrics.delivery(), metrics.attempt() as attempt:
            attempt.result = "ok"
        metrics.retried("timeout")
        metrics.delayed("timeout")
        metrics.parked("timeout")
    return metrics


def samples(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.text().decode("utf-8")):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_names() -> None:
    """Every metric of ours has the prefix, help, and a unit or a plain word at its end; counters end in _total."""
    for family in text_string_to_metric_families(full().text().decode("utf-8")):
        if family.name.startswith(("process_", "python_")):
            continue
        assert family.name.startswith("junebug_turn")
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)


def test_no_globals() -> None:
    """Two daemons in one process count apart."""
    one, two = full(), full()
    one.request("c", "200", 0.1)
    assert samples(one)["junebug_turn_http_requests_total"][0][1] == 2
    assert samples(two)["junebug_turn_http_requests_total"][0][1] == 1


def test_unknown_connector() -> None:
    """A connector that no application has makes no label value of its own."""
    metrics = full()
    for number in range(5):
        with about(connector=f"x{number}", kind="inbound"):
            metrics.parked("timeout")
    labels = [labels["connector"] for labels, _ in samples(metrics)["junebug_turn_parked_messages_total"]]
    assert sorted(labels) == ["", "c"]


def test_what_a_cache_cannot_tell() -> None:
    """What a cache can't tell is not there, rather than 0."""
    stats = {"c": CacheStats({"inbound": PartStats(hits=1)})}
    found = samples(Metrics(state=lambda: State(caches=stats)))
    assert found["junebug_turn_cache_hits_total"][0][1] == 1
    for name in ("entries", "evictions_total", "failures_total"):
        assert f"junebug_turn_cache_{name}" not in found


def test_origins() -> None:
    """Configured origins have a circuit each; those that clients named are one, open when any of them is."""
    found = samples(full())["junebug_turn_circuit_open"]
    assert {labels["origin"]: value for labels, value in found} == {
        "http://a:1": 1,
        "http://b:1": 0,
        OTHER: 1,
    }


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
    with about(connector="c", kind="event"):
        try:
            with metrics.delivery():
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
    for family in text_string_to_metric_families(full().text().decode("utf-8")):
        if family.name.startswith("junebug_turn"):
            assert family.name in text, family.name
            assert f"`{family.name.removeprefix('junebug_turn_')}" in page or family.name in page, family.name


def test_alerts_tell_what_to_do() -> None:
    """Each alert has a severity, says what is wrong and which part of docs/troubleshooting.md helps."""
    page = (ETC.parent / "docs" / "troubleshooting.md").read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    }
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            notes: dict[str, Any] = rule["annotations"]
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert notes["summary"]
            document, _, anchor = notes["runbook"].partition("#")
            assert document == "docs/troubleshooting.md"
            assert anchor in anchors, rule["alert"]
