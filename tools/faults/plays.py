"""What is done to the daemon and to those around it, while a load runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping

from tools.faults.ledger import Row
from tools.faults.receiver import Mode
from tools.faults.stage import Stage

Fault = Callable[[Stage, float], None]

SETTLING = 90.0
"""Seconds after which what has not come is lost; a circuit of the daemon can be open for up to 60."""

ALARM = "0.000001"
NO_ALARM = "0.9"


def stop_broker(stage: Stage, seconds: float) -> None:
    """The broker is stopped for a while."""
    stage.node.stop_app()
    try:
        time.sleep(seconds)
    finally:
        stage.node.start_app()


def close_connections(stage: Stage, seconds: float) -> None:
    """The broker closes all its connections, and again after a while."""
    stage.node.close_connections("a fault")
    time.sleep(seconds)
    stage.node.close_connections("a fault")


def raise_alarm(stage: Stage, seconds: float) -> None:
    """The broker has no memory for a while, and blocks those who publish."""
    stage.node.ctl("set_vm_memory_high_watermark", ALARM)
    try:
        time.sleep(seconds)
    finally:
        stage.node.ctl("set_vm_memory_high_watermark", NO_ALARM)


def kill_daemon(stage: Stage, seconds: float) -> None:
    """The daemon is killed with -9 while its hands are full, and started again after a while."""
    stage.receiver.mode = "hold"
    time.sleep(min(seconds, 0.5))
    _end_daemon(stage, seconds, signal.SIGKILL)


def stop_daemon(stage: Stage, seconds: float) -> None:
    """The daemon is stopped in order, and started again after a while: that repeats nothing."""
    _end_daemon(stage, seconds, signal.SIGTERM)


def _end_daemon(stage: Stage, seconds: float, how: signal.Signals) -> None:
    stage.daemon.end(how)
    stage.receiver.mode = "ok"
    time.sleep(seconds)
    stage.start_daemon()
    stage.daemon.wait_until_healthy()


def delete_queues(stage: Stage, seconds: float) -> None:
    """The queues are deleted while some messages wait in them and others are under way."""
    stage.receiver.mode = "hold"
    time.sleep(min(seconds, 0.5))
    for account in stage.load.accounts.values() if stage.load else ():
        stage.delete_queue(account)
    stage.receiver.mode = "ok"
    time.sleep(seconds)


def destination(mode: Mode) -> Fault:
    """The destination does ``mode`` for a while."""

    def play(stage: Stage, seconds: float) -> None:
        stage.receiver.mode = mode
        time.sleep(seconds)
        stage.receiver.mode = "ok"

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
    "queues-deleted": delete_queues,
}
"""The faults by their names: each takes the stage and how many seconds it lasts, and ends with all in order."""

ORDERLY = {"daemon-stopped"}
"""Those under which nothing comes twice."""


def play(stage: Stage, name: str, seconds: float) -> tuple[list[Row], list[str]]:
    """Run a load, and the fault ``name`` in the middle third of ``seconds``.

    :returns: the counts; and what went wrong, in words
    """
    load = stage.begin()
    try:
        time.sleep(seconds / 3)
        FAULTS[name](stage, seconds / 3)
        time.sleep(seconds / 3)
        rows = load.finish(name, SETTLING)
    finally:
        load.stop()
    wrong = load.faults
    wrong += [f"{row.lost} {row.kind} messages are lost" for row in rows if row.lost]
    for row in rows:
        if row.repeated and (row.kind == "outbound" or name in ORDERLY):
            wrong.append(f"{row.kind} messages were repeated {row.repeated} times")
    return rows, wrong
