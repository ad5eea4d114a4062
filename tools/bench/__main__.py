"""The benchmark, ``make bench`` and ``make bench-quick``: measure, print the table, write the figures as JSON.

Tested whole by ``make bench-quick``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench import cache, connectors, load, soak, table
from tools.bench.measures import FOLDER, FULL, QUICK, Bench, Figures, Side
from tools.bench.processes import BenchError, NoWrk, Receiver, broker
from tools.servers.process import ROOT, ProcessError
from tools.servers.rabbitmq import RabbitNode

APPLICATIONS = ("junebug", "turn")
CACHE_ROUNDS = 12
LIBRARIES = ("Twisted", "klein", "Werkzeug", "treq", "txAMQP", "attrs")


def measure(bench: Bench, quick: bool) -> dict[str, Figures]:
    """Measure all figures: the median of each over the rounds, so that floors and daemon share what disturbs them."""
    rounds: list[dict[str, Figures]] = []
    for number in range(bench.size.rounds):
        say(f"round {number + 1} of {bench.size.rounds}")
        rounds.append(one_round(bench))
    results = {
        name: {key: median([one[name][key] for one in rounds]) for key in figures}
        for name, figures in rounds[0].items()
    }
    if not quick:
        with cache.configs() as kinds:
            say("the caches beside one another")
            for kind, (rate, part) in cache.in_daemon(bench, kinds, CACHE_ROUNDS).items():
                results[f"in turns, {kind}"] = {"rate": rate, "part": part}
            for kind in ("sqlite", "redis"):
                say(f"the {kind} cache")
                results |= other_cache(bench, kind, kinds[kind])
        say("two processes")
        results |= processes(bench)
    return results


def one_round(bench: Bench) -> dict[str, Figures]:
    """Measure the floors, and the daemon with the memory cache."""
    results: dict[str, Figures] = {"klein": bench.klein(), "klein at rate": bench.klein_at_rate()}
    for name in ("publish", "consume", "treq"):
        results[name] = bench.floor(name)
    results["publish at rate"] = bench.publish_at_rate()
    for application in APPLICATIONS:
        with bench.daemon(application, "memory") as side:
            memory: Figures = {"start_s": side.daemon.start_up, "rest": side.daemon.memory}
            side.warm_up()
            grown = _grown(side, side.outbound, results, f"{application} outbound")
            memory["outbound_entry"] = grown / (results[f"{application} outbound"]["count"])
            results[f"{application} outbound at rate"] = side.outbound_at_rate()
            grown = _grown(side, side.inbound, results, f"{application} inbound")
            memory["inbound_entry"] = grown / (results[f"{application} inbound"]["count"])
            results[f"{application} events"] = side.events()
            memory["loaded"] = side.daemon.memory
            results[f"{application} process"] = memory
    return results


def _grown(side: Side, work: Callable[[], Figures], results: dict[str, Figures], name: str) -> int:
    before = side.daemon.memory
    results[name] = work()
    return side.daemon.memory - before


def other_cache(bench: Bench, kind: str, options: dict[str, Any]) -> dict[str, Figures]:
    """Measure the daemon with another cache."""
    results: dict[str, Figures] = {}
    for application in APPLICATIONS:
        with bench.daemon(application, kind, cache_config=options) as side:
            side.warm_up()
            results[f"{application} outbound, {kind}"] = side.outbound()
            results[f"{application} inbound, {kind}"] = side.inbound()
            results[f"{application} events, {kind}"] = side.events()
    return results


def processes(bench: Bench) -> dict[str, Figures]:
    """Measure one and two daemon processes on the same queues; each has an address of its own."""
    results: dict[str, Figures] = {}
    for count in (1, 2):
        with ExitStack() as stack:
            sides = [
                stack.enter_context(bench.daemon("junebug", "memory", connector="bench-processes"))
                for _ in range(count)
            ]
            for side in sides:
                side.warm_up()
            results[f"outbound, {count} processes"] = bench.outbound_together(sides)
            results[f"inbound, {count} processes"] = bench.inbound_together(sides)
    return results


def machine(node: RabbitNode) -> dict[str, str]:
    """Describe the machine and the versions of the libraries."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    found = {"cpu": model, "cores": str(os.cpu_count()), "python": platform.python_version()}
    found |= {name: version(name) for name in LIBRARIES}
    found["rabbitmq"] = node.ctl("version").strip()
    return found


def say(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the benchmark; it fails when something can't be measured, never for a figure."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than a minute, and rougher figures")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="only: memory under a steady load")
    parser.add_argument(
        "--connectors", type=int, metavar="COUNT", help="only: starts with so many connectors"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench.json", help="where the figures go")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        if options.connectors:
            with broker() as node:
                print(connectors.run(FOLDER, node, options.connectors, say))
            return
        load.ensure_wrk()
        with broker() as node, Receiver(FOLDER) as receiver:
            bench = Bench(FOLDER, node, receiver, QUICK if options.quick else FULL)
            if options.soak:
                print(soak.run(bench, options.soak, say))
                return
            figures = measure(bench, options.quick)
            report = {"machine": machine(node), "figures": figures, "ratios": table.ratios(figures)}
    except NoWrk as missing:
        # The quick form is a part of the tests, which can do without it.
        if not options.quick:
            sys.exit(str(missing))
        say(f"no benchmark: {missing}")
        return
    except (BenchError, ProcessError) as error:
        sys.exit(str(error))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(table.text(report))
    say(f"{time.monotonic() - begun:.0f} s; the figures are in {options.json}")


if __name__ == "__main__":
    main()
