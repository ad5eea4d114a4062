"""The fault suite, ``make faults``: play every fault under a load, and print the counts of all messages.

Tested by tests/tools/faults/test_counts.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from tools.faults.counts import Row
from tools.faults.environment import BROKER_SETTINGS, Environment, FaultsError
from tools.faults.faults import FAULTS, PROMPT_LIMIT, play
from tools.servers.installed import ensure_installed
from tools.servers.process import ROOT, ProcessError
from tools.servers.rabbitmq import PROGRAM, RabbitNode


def table(rows: Sequence[Row]) -> str:
    """Write the counts as a table of Markdown, with a last line of sums."""
    columns = [field.name for field in attrs.fields(Row)]
    titles = ["recovered after" if column == "recovered" else column for column in columns]
    lines = [titles, ["---"] * 2 + ["---:"] * (len(columns) - 2)]
    lines += [[str(value) for value in attrs.astuple(row)] for row in rows]
    sums = [sum(getattr(row, column) for row in rows) for column in columns[2:-2]]
    lines.append(["**all**", "", *map(str, sums), "", ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Play the faults; the exit status is 1 when something was lost or went wrong."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="how long the load of each fault runs")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--prompt", type=float, default=PROMPT_LIMIT, help="the p99 in seconds beside one refused message"
    )
    options = parser.parse_args()
    rows: list[Row] = []
    wrong: list[str] = []
    begun = time.monotonic()
    (ROOT / "var").mkdir(exist_ok=True)
    try:
        ensure_installed(PROGRAM)
        with (
            TemporaryDirectory(prefix="faults-", dir=ROOT / "var") as folder,
            RabbitNode(settings=BROKER_SETTINGS) as node,
            Environment(Path(folder), node, "faults") as environment,
        ):
            for name in options.fault or FAULTS:
                print(f"{name} ...", file=sys.stderr, flush=True)
                found, faults = play(environment, name, options.seconds, options.prompt)
                rows += found
                wrong += [f"{name}: {fault}" for fault in faults]
    except (FaultsError, ProcessError) as error:
        sys.exit(str(error))
    print(table(rows))
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
