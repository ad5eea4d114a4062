"""The faults: each is done to the daemon, the broker or the destination while a load runs.

Tested by tests/integration/test_faults.py.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping

from tools.faults.counts import Counts, Row
from tools.faults.destination import Mode
from tools.faults.environment import MAX_MESSAGE_SIZE, Environment, FaultsError
from tools.faults.load import PAUSE

Fault = Callable[[Environment, float], None]

SETTLING = 90.0
"""Seconds after which a message that has not come is lost; a circuit of the daemon can be open for up to 60."""

ALARM = "0.000001"
NO_ALARM = "0.9"
TOO_LARGE = 413


def stop_broker(environment: Environment, seconds: float) -> None:
    """The broker is stopped for a while."""
    environment.node.stop_app()
    try:
        time.sleep(seconds)
    finally:
        environment.node.start_app()


def close_connections(environment: Environment, seconds: float) -> None:
    """The broker closes all its connections, and again after a while."""
    environment.node.close_connections("a fault")
    time.sleep(seconds)
    environment.node.close_connections("a fault")


def raise_alarm(environment: Environment, seconds: float) -> None:
    """The broker has no memory for a while, and blocks those who publish."""
    environment.node.ctl("set_vm_memory_high_watermark", ALARM)
    try:
        time.sleep(seconds)
    finally:
        environment.node.ctl("set_vm_memory_high_watermark", NO_ALARM)


def kill_daemon(environment: Environment, seconds: float) -> None:
    """The daemon is killed with -9 while it holds as many messages as it may, and started again after a while."""
    environment.destination.mode = "hold"
    time.sleep(min(seconds, 0.5))
    _end_daemon(environment, seconds, signal.SIGKILL)


def stop_daemon(environment: Environment, seconds: float) -> None:
    """The daemon is stopped in order, and started again after a while: that repeats nothing."""
    _end_daemon(environment, seconds, signal.SIGTERM)


def _end_daemon(environment: Environment, seconds: float, how: signal.Signals) -> None:
    environment.daemon.end(how)
    environment.destination.mode = "ok"
    time.sleep(seconds)
    environment.start_daemon()
    environment.wait_until_healthy()


def delete_queues(environment: Environment, seconds: float) -> None:
    """The queues are deleted while some messages wait in them and others are under way."""
    environment.destination.mode = "hold"
    time.sleep(min(seconds, 0.5))
    for counts in environment.load.counts.values() if environment.load else ():
        environment.delete_queue(counts)
    environment.destination.mode = "ok"
    time.sleep(seconds)


def close_channel(environment: Environment, seconds: float) -> None:
    """Clients send messages over the broker's limit, of which the first closes a channel: only these are refused."""
    if environment.load is not None:
        environment.load.exact = True
    client = environment.new_client(Counts("oversized"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.send("x" * MAX_MESSAGE_SIZE)
        time.sleep(PAUSE)
    if set(client.answers) != {TOO_LARGE}:
        raise FaultsError(f"messages over the broker's limit got the answers {dict(client.answers)}")


def destination(mode: Mode) -> Fault:
    """The destination does ``mode`` for a while."""

    def play(environment: Environment, seconds: float) -> None:
        environment.destination.mode = mode
        time.sleep(seconds)
        environment.destination.mode = "ok"
        for counts in environment.load.counts.values() if environment.load else ():
            counts.fault_is_over()

    return play


FAULTS: Mapping[str, Fault] = {
    "broker-stopped": stop_broker,
    "connections-closed": close_connections,
    "memory-alarm": raise_alarm,
    "daemon-killed": kill_daemon,
    "daemon-stopped": stop_daemon,
    "destination-500": destination("500"),
    "destination-resets": destination("reset"),
    "destination-hangs": destination("hang"),
    "destination-trickles": destination("trickle"),
    "one-message-404": destination("one-404"),
    "one-message-500": destination("one-500"),
    "queues-deleted": delete_queues,
    "channel-closed": close_channel,
}
"""The faults by their names: each takes the environment and its length in seconds, and ends with all in order."""

PROMPT = {"one-message-404", "one-message-500", "channel-closed"}
"""The faults under which all other messages come, and requests are answered, as if there were none."""

PROMPT_LIMIT = 0.5
"""Seconds, of the 99th percentile of their delays."""

ORDERLY = {"daemon-stopped"}
"""The faults under which no message comes twice."""


def play(
    environment: Environment, name: str, seconds: float, prompt_limit: float = PROMPT_LIMIT
) -> tuple[list[Row], list[str]]:
    """Run a load, and the fault ``name`` in the middle third of ``seconds``.

    :param prompt_limit: seconds, which ``PROMPT_LIMIT`` suits on a machine that does nothing else
    :returns: the counts; and faults of the daemon, in words
    """
    load = environment.begin()
    try:
        time.sleep(seconds / 3)
        FAULTS[name](environment, seconds / 3)
        time.sleep(seconds / 3)
        rows = load.finish(name, SETTLING)
    finally:
        load.stop()
    wrong = load.faults
    wrong += [f"{row.lost} {row.kind} messages are lost" for row in rows if row.lost]
    if name in PROMPT:
        wrong += [
            f"other {row.kind} messages were {row.p99} s late" for row in rows if row.p99 > prompt_limit
        ]
    for row in rows:
        if row.repeated and (row.kind == "outbound" or name in ORDERLY):
            wrong.append(f"{row.kind} messages were repeated {row.repeated} times")
    return rows, wrong
