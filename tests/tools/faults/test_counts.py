"""The counts of the fault suite, and its table."""

from __future__ import annotations

import time

import attrs
import pytest

from tools.faults.__main__ import table
from tools.faults.counts import Counts, Row


def counted(*accepted: str) -> Counts:
    made = Counts("inbound")
    for name in accepted:
        made.begin(name)
        made.end(name, True)
    return made


def test_where_everything_is() -> None:
    """What was accepted is counted once, by the best that became of it; what is nowhere is lost."""
    made = counted("delivered", "twice", "parked", "delayed", "nowhere")
    made.begin("refused")
    made.end("refused", False)
    for name in ("delivered", "twice", "twice", "of another load"):
        made.arrive(name)
    made.parked |= {"parked", "delivered"}
    made.delayed |= {"delayed", "twice", "refused"}
    assert attrs.evolve(made.row("f"), p99=0) == Row(
        fault="f",
        kind="inbound",
        sent=6,
        accepted=5,
        delivered=2,
        repeated=1,
        parked=1,
        delayed=1,
        deleted=0,
        lost=1,
        p99=0,
    )


def test_what_goes_with_a_queue() -> None:
    """A deleted queue excuses no more than was in it, or on its way to it; nothing that was accepted later."""
    made = counted("a", "b", "c", "seen")
    made.arrive("seen")
    made.begin("on its way")

    def delete() -> int:
        made.begin("meanwhile")
        made.end("meanwhile", True)
        return 2

    made.delete(delete)
    made.end("on its way", True)
    made.begin("later")
    made.end("later", True)
    row = made.row("f")
    assert (row.delivered, row.deleted, row.lost) == (1, 4, 2)
    assert made.missing_and_not_deleted() == 2
    made.arrive("later")
    made.arrive("c")
    row = made.row("f")
    assert (row.delivered, row.deleted, row.lost) == (3, 4, 0)


def test_the_table() -> None:
    """The table has a line for each row, and one with the sums."""
    rows = [counted("a").row("f"), counted("a", "b").row("g")]
    lines = table(rows).splitlines()
    assert lines[0] == (
        "| fault | kind | sent | accepted | delivered | repeated | parked | delayed | deleted | lost | p99 "
        "| recovered after |"
    )
    assert lines[2] == "| f | inbound | 1 | 1 | 0 | 0 | 0 | 0 | 0 | 1 | 0 | 0 |"
    assert lines[4] == "| **all** |  | 3 | 3 | 0 | 0 | 0 | 0 | 0 | 3 |  |  |"


def test_the_delay_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 99th percentile of the delays is that of all but the message that the destination refuses."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = counted(*(f"m{number}" for number in range(100)), "refused")
    made.refused.add("refused")
    for number in range(100):
        now = number / 100
        made.arrive(f"m{number}")
    now = 60
    made.arrive("refused")
    made.arrive("m0")
    assert made.row("f").p99 == 0.98


def test_the_delay_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay of an outbound message is that of its request, accepted or not; when its queue is read says nothing."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = Counts("outbound")
    for number, accepted in enumerate((True, True, False)):
        name = f"m{number}"
        made.begin(name)
        now += number
        made.end(name, accepted)
    now = 60
    made.arrive("m0")
    assert made.delays == {"m0": 0, "m1": 1, "m2": 2}
    assert made.row("f").p99 == 1


def test_the_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recovery lasts until the last one came that waited at the end of the fault; later ones don't count."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = counted("came before", "waited", "waited too")
    made.arrive("came before")
    now = 10
    made.fault_is_over()
    made.begin("later")
    now = 12
    made.arrive("waited too")
    now = 14.5
    made.arrive("waited")
    now = 20
    made.arrive("later")
    assert made.row("f").recovered == 4.5
