"""The table of the benchmark, with its targets."""

from __future__ import annotations

import json

from tools.bench import table


def test_ratios() -> None:
    """A figure that is over its target is marked in the table, and one at it is not."""
    figures = {name: {"cpu_us": 100.0, "rate": 1.0} for name in table.FLOORS}
    figures |= {name: {"cpu_us": 240.0, "rate": 1.0} for name in table.TARGETS}
    for name in ("junebug outbound at rate", "turn outbound at rate"):
        figures[name] = {"cpu_us": 1.0, "rate": 1.0, "p50": 1.0, "p99": 4.0, "p99_all": 4.0, "stolen": 0.0}
    figures["junebug outbound"]["cpu_us"] = 270.0
    ratios = table.ratios(figures)
    lines = table.text({"machine": {"cpu": "any"}, "figures": figures, "ratios": ratios}).splitlines()
    over = [line for line in lines if line.endswith("over")]
    assert len(over) == 1
    assert over[0].startswith("junebug outbound: cpu / (klein + publish)")
    json.dumps(ratios)


def test_a_latency_of_a_busy_machine_is_marked() -> None:
    """A latency over its target that is not of quiet seconds says so, and no other does."""
    figures = {name: {"cpu_us": 100.0, "rate": 1.0} for name in (*table.FLOORS, *table.TARGETS)}
    row = {"cpu_us": 1.0, "rate": 1.0, "p50": 1.0, "p99": 5.0, "p99_all": 6.0}
    figures["junebug outbound at rate"] = row | {"stolen": 0.2}
    figures["turn outbound at rate"] = row | {"stolen": 0.001}
    ratios = table.ratios(figures)
    lines = table.text({"machine": {}, "figures": figures, "ratios": ratios}).splitlines()
    assert [line.partition("over")[2] for line in lines if "  over" in line] == [
        ", in seconds that were not quiet",
        "",
    ]
    assert any(
        line.startswith("junebug outbound at rate") and line.endswith("20.0        6.00") for line in lines
    )
