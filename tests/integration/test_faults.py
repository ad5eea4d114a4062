"""Each fault of the fault suite in a small version, and random sequences of them, on a real broker and a daemon
in a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tools.faults.destination import Mode
from tools.faults.environment import BROKER_SETTINGS, Environment
from tools.faults.faults import ALARM, FAULTS, NO_ALARM, PROMPT, SETTLING, play
from tools.servers.rabbitmq import RabbitNode

LOAD = 0.6  # seconds
BUDGET = 6.0  # seconds for all random faults together; what follows is the time until all is settled


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """One broker and one daemon for all tests here."""
    with (
        RabbitNode(settings=BROKER_SETTINGS) as node,
        Environment(tmp_path_factory.mktemp("faults"), node, "faults") as environment,
    ):
        yield environment


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost(environment: Environment, fault: str) -> None:
    """Each 201 is in the outbound queue once; every inbound message and event has reached the destination at least
    once, or is parked, or delayed."""
    # Other tests run beside this one; test_refused_messages.py has the promise of promptness.
    rows, wrong = play(environment, fault, LOAD, prompt_limit=10)
    assert not wrong
    assert all(row.accepted for row in rows), rows
    assert not any(row.lost for row in rows), rows


def test_a_loss_is_seen(environment: Environment) -> None:
    """A message that somebody else took from its queue, or put there twice, is in the counts."""
    load = environment.begin()
    try:
        environment.destination.mode = "hold"
        inbound, outbound = load.counts["inbound"], load.counts["outbound"]
        # The daemon holds as many, and one more is in the queue.
        _until(lambda: len(inbound.accepted) > 20 and len(outbound.accepted) > 3)
        load.stop()
        stolen = {body["message_id"] for body in environment.take("inbound")}
        gone, twice, *rest = environment.take("outbound")
        for body in (twice, twice, *rest):
            outbound.arrive(body["content"])
        environment.destination.mode = "ok"
        rows = {row.kind: row for row in load.finish("stolen", 0)}
    finally:
        environment.destination.mode = "ok"
        load.stop()
    assert rows["inbound"].lost >= len(stolen & inbound.accepted) > 0
    assert gone["content"] not in outbound.arrived
    assert (rows["outbound"].lost, rows["outbound"].repeated) == (1, 1)


@pytest.mark.parametrize("fault", sorted(PROMPT))
def test_a_late_message_is_seen(environment: Environment, fault: str) -> None:
    """One message that is refused delays no other: the suite fails where others are late, whatever their kind."""
    rows, wrong = play(environment, fault, LOAD, prompt_limit=0)
    assert wrong == [f"other {row.kind} messages were {row.p99} s late" for row in rows]
    assert [row.kind for row in rows] == ["outbound", "inbound", "event"]


def _until(condition: Callable[[], bool], limit: float = 10) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Sequence(RuleBasedStateMachine):
    """A load that runs while one fault comes to the other; what is broken stays so until a later step repairs it."""

    def __init__(self, environment: Environment, deadline: float) -> None:
        super().__init__()
        self.environment = environment
        self.deadline = deadline
        self.broker_up = True
        self.daemon_up = True
        self.alarm = False
        self.load = None if self.over else environment.begin()

    @property
    def over(self) -> bool:
        """Steps do nothing when the time is over: which steps there are must not depend on the time."""
        return time.monotonic() > self.deadline

    @initialize(seconds=st.floats(0.1, 0.3))
    def begin(self, seconds: float) -> None:
        self.carry_on(seconds)

    # The rule whose name comes first is what hypothesis begins with: not one that takes long.
    @rule(seconds=st.floats(0.1, 0.5))
    def carry_on(self, seconds: float) -> None:
        if not self.over:
            time.sleep(seconds)

    @rule(mode=st.sampled_from(["ok", "500", "reset", "hang", "trickle", "hold"]))
    def destination(self, mode: Mode) -> None:
        if not self.over:
            self.environment.destination.mode = mode

    @precondition(lambda self: self.broker_up)
    @rule()
    def stop_broker(self) -> None:
        self.broker_up = False
        if not self.over:
            self.environment.node.stop_app()

    @precondition(lambda self: not self.broker_up)
    @rule()
    def start_broker(self) -> None:
        self.broker_up = True
        self.environment.node.start_app()

    @precondition(lambda self: self.broker_up)
    @rule()
    def close_connections(self) -> None:
        if not self.over:
            self.environment.node.close_connections()

    @precondition(lambda self: self.broker_up and not self.alarm)
    @rule()
    def raise_alarm(self) -> None:
        self.alarm = True
        if not self.over:
            self.environment.node.ctl("set_vm_memory_high_watermark", ALARM)

    @precondition(lambda self: self.daemon_up)
    @rule(how=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def end_daemon(self, how: signal.Signals) -> None:
        self.daemon_up = False
        if not self.over:
            self.environment.daemon.end(how)

    @precondition(lambda self: not self.daemon_up)
    @rule()
    def start_daemon(self) -> None:
        self.daemon_up = True
        if self.environment.daemon.status is not None:
            self.environment.start_daemon()

    @precondition(lambda self: self.broker_up)
    @rule(kind=st.sampled_from(["outbound", "inbound", "event"]))
    def delete_queue(self, kind: str) -> None:
        if self.load is not None and not self.over:
            self.environment.delete_queue(self.load.counts[kind])

    def teardown(self) -> None:
        if self.load is None:
            return
        self.load.stop()
        self.environment.destination.mode = "ok"
        if not self.broker_up:
            self.start_broker()
        if self.alarm:
            self.environment.node.ctl("set_vm_memory_high_watermark", NO_ALARM)
        if not self.daemon_up:
            self.start_daemon()
        rows = self.load.finish("random", SETTLING)
        assert not self.load.faults, self.load.faults
        assert not any(row.lost for row in rows), rows
        assert not rows[0].repeated, rows


def test_random_faults(environment: Environment) -> None:
    """After any sequence of faults, of which several may last at once, nothing is lost."""
    deadline = time.monotonic() + BUDGET
    run_state_machine_as_test(
        lambda: Sequence(environment, deadline),
        settings=settings(
            max_examples=4,
            stateful_step_count=8,
            deadline=None,
            database=None,
            # What fails once is shown as it was: a second run would have another course.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
