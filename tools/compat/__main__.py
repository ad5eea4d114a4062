"""The integration tests and the fault suite on RabbitMQ 4 and Redis 8, and the certificates' tests on the oldest
Twisted: ``make compat``.

Tested by tests/tools/compat/test_main.py.
"""

from __future__ import annotations

import os
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

_PYTEST = ("pytest", "-n", "3", "--dist", "loadfile", "-p", "no:cacheprovider")
# Neither a broker nor Redis has a part in these.
_WITHOUT = tuple(
    f"--ignore=tests/integration/test_{name}.py"
    for name in ("certificates", "down_destinations", "old_command")
)
_BROKER = ("tests/integration", "tests/unit/cli", "tests/tools/servers/test_rabbitmq.py", *_WITHOUT)
_REDIS = ("tests/unit/state/redis", "tests/tools/servers/test_redis.py")


@frozen
class Run:
    """One part of the run: a module of Python with its arguments, and the settings of the nodes that it starts."""

    name: str
    settings: str
    command: Sequence[str]


RUNS = (
    Run("tests, classic queues", STRICT, (*_PYTEST, *_BROKER, *_REDIS)),
    Run("tests, quorum queues", STRICT + QUORUM, (*_PYTEST, *_BROKER)),
    Run("fault suite, quorum queues", STRICT + QUORUM, ("tools.faults", "--seconds", "6", "--prompt", "5")),
    Run("certificates, oldest Twisted", "", ("tools.compat.oldest",)),
)


def versions() -> str:
    """Start a broker and a Redis of the tree; their versions."""
    with RabbitNode() as node, RedisServer() as redis:
        return f"RabbitMQ {'.'.join(map(str, node.version))}, Redis {redis.version}"


def play(runs: Sequence[Run], tree: Path) -> list[str]:
    """Do the runs, each with the servers of ``tree``; the names of those that failed."""
    failed = []
    for run in runs:
        print(f"--- {run.name}", flush=True)
        begun = time.monotonic()
        environment = os.environ | {TREE: str(tree), SETTINGS: run.settings}
        done = subprocess.run(
            [sys.executable, "-m", *run.command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        print(f"--- {run.name}: status {done.returncode} after {time.monotonic() - begun:.0f} s", flush=True)
        if done.returncode:
            failed.append(run.name)
    return failed


def main() -> None:
    """Do all runs; the exit status is 1 when one failed, or when there are no such servers here."""
    try:
        tree = ensure_tree()
        os.environ[TREE] = str(tree)
        print(f"{versions()}, from {tree}", flush=True)
    except ProcessError as error:
        sys.exit(f"Nothing was tested on RabbitMQ 4 and Redis 8: {error}")
    failed = play(RUNS, tree)
    if failed:
        sys.exit(f"Failed on other versions: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
