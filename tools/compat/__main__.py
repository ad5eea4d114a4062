"""The integration tests and the fault suite on RabbitMQ 4 and Redis 8, and the certificates' tests on the oldest
Twisted: ``make compat``, or ``python -m tools.compat quorum faults`` for some of the runs.

Tested by tests/tools/compat/test_main.py.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tools.compat.tree import ensure_tree
from tools.servers.installed import TREE
from tools.servers.process import ROOT, ProcessError
from tools.servers.rabbitmq import SETTINGS, RabbitNode
from tools.servers.redis import RedisServer

# What RabbitMQ 4 still permits, and a later one will not: see its list_deprecated_features.
STRICT = "".join(
    f"deprecated_features.permit.{feature} = false\n"
    for feature in ("amqp_address_v1", "global_qos", "queue_master_locator")
)
QUORUM = "default_queue_type = quorum\n"

LOGS = ROOT / "var" / "compat"
"""The folder of the logs, one for each run, and of pytest's cache with the failed tests."""

# On a slow disk a confirm of a quorum queue may take seconds: a test waits longer than under ``make test``.
_PATIENCE = {"TEST_PATIENCE": "4", "CI": "1"}
_PYTEST = ("pytest", "-q", "-rfE", "-o", "faulthandler_timeout=600", "-o")
_TOGETHER = ("--cache-clear", "-n", "2", "--dist", "loadfile")
_ALONE = ("--last-failed", "--last-failed-no-failures", "none")
# Neither a broker nor Redis has a part in these.
_WITHOUT = tuple(
    f"--ignore=tests/integration/test_{name}.py"
    for name in ("certificates", "down_destinations", "old_command")
)
_BROKER = ("tests/integration", "tests/unit/cli", "tests/tools/servers/test_rabbitmq.py", *_WITHOUT)
_REDIS = ("tests/unit/state/redis", "tests/tools/servers/test_redis.py")
_OUTCOME = re.compile(r"=* ?(\d+ (?:passed|failed|errors?|skipped|deselected).* in [\d.]+s\b.*?) ?=*")


@frozen
class Run:
    """One part of the run: a module of Python with its arguments, and the settings of the nodes that it starts.

    :ivar word: its name on the command line, and of its log
    :ivar again: the command that does once more, one by one, what has failed; empty: none
    :ivar needs_tree: whether it needs the servers of Debian 13
    """

    word: str
    name: str
    settings: str
    command: Sequence[str]
    again: Sequence[str] = ()
    needs_tree: bool = True


@frozen
class Result:
    """What has become of a run.

    :ivar status: its exit status, or that of its second try
    :ivar outcome: the line with pytest's numbers, and what had failed at the first try
    """

    run: Run
    status: int
    seconds: float
    outcome: str

    def __str__(self) -> str:
        verdict = "failed" if self.status else "passed"
        log = LOGS / f"{self.run.word}.log"
        return f"{verdict}: {self.run.name}, {self.seconds:.0f} s; {self.outcome}; log: {log}"


def _tests(word: str, name: str, settings: str, *paths: str) -> Run:
    command = (*_PYTEST, f"cache_dir={LOGS / word}.cache")
    return Run(word, name, settings, (*command, *_TOGETHER, *paths), (*command, *_ALONE, *paths))


RUNS = (
    _tests("classic", "tests, classic queues", STRICT, *_BROKER, *_REDIS),
    _tests("quorum", "tests, quorum queues", STRICT + QUORUM, *_BROKER),
    Run(
        "faults",
        "fault suite, quorum queues",
        STRICT + QUORUM,
        ("tools.faults", "--seconds", "6", "--prompt", "5"),
    ),
    Run("certificates", "certificates, oldest Twisted", "", ("tools.compat.oldest",), needs_tree=False),
)


def versions() -> str:
    """Start a broker and a Redis of the tree; their versions."""
    with RabbitNode() as node, RedisServer() as redis:
        return f"RabbitMQ {'.'.join(map(str, node.version))}, Redis {redis.version}"


def play(runs: Sequence[Run], tree: Path | None, logs: Path = LOGS) -> list[Result]:
    """Do the runs, each with the servers of ``tree``; one that fails stops no other."""
    logs.mkdir(parents=True, exist_ok=True)
    results = []
    for run in runs:
        print(f"--- {run.name}", flush=True)
        begun = time.monotonic()
        environment = os.environ | {SETTINGS: run.settings} | _PATIENCE
        if tree is not None:
            environment[TREE] = str(tree)
        log = logs / f"{run.word}.log"
        status, lines = _call(run.command, environment, log, "wb")
        outcome = _outcome(lines)
        if status == 1 and run.again:  # pytest has run all tests, and some failed
            failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
            print(f"--- {run.name}: once more, one by one, what has failed", flush=True)
            status, lines = _call(run.again, environment, log, "ab")
            outcome = f"{outcome}; once more, one by one: {_outcome(lines)}; at first: {' '.join(failed)}"
        result = Result(run, status, time.monotonic() - begun, outcome)
        print(f"--- {run.name}: status {status} after {result.seconds:.0f} s", flush=True)
        results.append(result)
    return results


def _call(command: Sequence[str], environment: dict[str, str], log: Path, mode: str) -> tuple[int, list[str]]:
    """Call a module of Python; its output is shown, and put into the log.  Returns its status and its last lines."""
    lines: list[str] = []
    with (
        open(log, mode) as file,
        subprocess.Popen(
            [sys.executable, "-u", "-m", *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            lines.append(line.decode("utf-8", "replace").rstrip())
            print(lines[-1], flush=True)
    return process.returncode, lines


def _outcome(lines: Sequence[str]) -> str:
    """Find pytest's numbers in the lines of a run; its last line where there are none."""
    found = [match[1] for match in map(_OUTCOME.fullmatch, lines) if match]
    return found[-1] if found else next((line for line in reversed(lines) if line), "no output")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs; the exit status is 1 when one failed, or when there are no such servers here."""
    parser = argparse.ArgumentParser(prog="python -m tools.compat", description=__doc__)
    words = [run.word for run in RUNS]
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"only these: {', '.join(words)}")
    chosen = parser.parse_args(arguments).runs
    if unknown := set(chosen) - set(words):
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    runs = [run for run in RUNS if run.word in (chosen or words)]
    tree = None
    if any(run.needs_tree for run in runs):
        try:
            tree = ensure_tree()
            os.environ[TREE] = str(tree)
            print(f"{versions()}, from {tree}", flush=True)
        except ProcessError as error:
            sys.exit(f"Nothing was tested on RabbitMQ 4 and Redis 8: {error}")
    results = play(runs, tree)
    print("--- summary", *results, sep="\n", flush=True)
    if failed := [result.run.name for result in results if result.status]:
        sys.exit(f"Failed on other versions: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
