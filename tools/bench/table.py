"""Table of the benchmark's figures, with their targets."""

from __future__ import annotations

from typing import Any

from tools.bench.stolen import QUIET

FLOORS = {
    "klein": "Klein: a route, JSON, 201",
    "klein at rate": "Klein at rate",
    "publish": "txamqp: publish, confirmed",
    "consume": "txamqp: consume and ack",
    "treq": "treq: POST to the receiver",
    "publish at rate": "txamqp: publish at rate",
}
_OUTBOUND, _INBOUND = ("klein", "publish"), ("consume", "treq")
# the figure, its floors, and how many times their sum it may be
TARGETS = {
    "junebug outbound": (_OUTBOUND, 1.3),
    "turn outbound": (_OUTBOUND, 1.3),
    "junebug inbound": (_INBOUND, 1.2),
    "turn inbound": (_INBOUND, 1.2),
    "junebug events": (_INBOUND, 1.2),
    "turn events": (_INBOUND, 1.2),
}
AT_RATE = ("junebug outbound at rate", "turn outbound at rate")
P99_TARGET = 4.0  # times p50, at the fixed rate
SQLITE_TARGET = 0.1  # of the throughput with the memory cache


def ratios(figures: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The ratios that have a target, each with it."""
    found = {}
    for name, (floors, target) in TARGETS.items():
        floor = sum(figures[part]["cpu_us"] for part in floors)
        found[f"{name}: cpu / ({' + '.join(floors)})"] = {
            "ratio": figures[name]["cpu_us"] / floor,
            "target": target,
        }
    for name in AT_RATE:
        found[f"{name}: p99 / p50"] = {
            "ratio": figures[name]["p99"] / figures[name]["p50"],
            "target": P99_TARGET,
            "stolen": figures[name]["stolen"],
        }
    # Absent from the quick form.
    if sqlite := figures.get("in turns, sqlite"):
        found["junebug outbound, sqlite: part lost of memory's"] = {
            "ratio": 1 - sqlite["part"],
            "target": SQLITE_TARGET,
        }
    return found


def text(report: dict[str, Any]) -> str:
    """The whole table."""
    figures: dict[str, dict[str, float]] = report["figures"]
    lines = [", ".join(f"{name} {value}" for name, value in report["machine"].items()), ""]
    lines.append(
        f"{'':34}{'per second':>12}{'CPU µs each':>12}{'p50 ms':>9}{'p99 ms':>9}{'stolen %':>10}{'p99 of all':>12}"
    )
    for name, row in figures.items():
        if "cpu_us" not in row:
            continue
        lines.append(
            f"{FLOORS.get(name, name):34}{row['rate']:12.0f}{row['cpu_us']:12.0f}"
            + (f"{row['p50']:9.2f}{row['p99']:9.2f}" if "p50" in row else "")
            + (f"{row['stolen'] * 100:10.1f}{row['p99_all']:12.2f}" if "stolen" in row else "")
        )
    lines += ["", f"{'':34}{'start s':>9}{'rest MB':>9}{'loaded MB':>10}{'B/inbound':>10}{'B/outbound':>11}"]
    for name, row in figures.items():
        if "start_s" in row:
            lines.append(
                f"{name:34}{row['start_s']:9.2f}{row['rest'] / 1e6:9.1f}{row['loaded'] / 1e6:10.1f}"
                f"{row['inbound_entry']:10.0f}{row['outbound_entry']:11.0f}"
            )
    lines += ["", f"{'':52}{'ratio':>8}{'target':>8}"]
    for name, row in report["ratios"].items():
        verdict = "" if row["ratio"] <= row["target"] else "  over"
        if verdict and row.get("stolen", 0) > QUIET:
            verdict += ", in seconds that were not quiet"
        lines.append(f"{name:52}{row['ratio']:8.2f}{row['target']:8.2f}{verdict}")
    return "\n".join(lines)
