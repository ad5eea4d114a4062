"""What the fault suite counts with, as its counts are only worth as much as that."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tools.faults.__main__ import table
from tools.faults.ledger import Account, Row
from tools.faults.receiver import Mode, Receiver


def account(*accepted: str) -> Account:
    made = Account("inbound")
    for name in accepted:
        made.begin(name)
        made.end(name, True)
    return made


def test_where_everything_is() -> None:
    """What was accepted is counted once, by the best that became of it; what is nowhere is lost."""
    made = account("delivered", "twice", "parked", "delayed", "nowhere")
    made.begin("refused")
    made.end("refused", False)
    for name in ("delivered", "twice", "twice", "of another load"):
        made.arrive(name)
    made.parked |= {"parked", "delivered"}
    made.delayed |= {"delayed", "twice", "refused"}
    assert made.row("f") == Row(
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
    )


def test_what_goes_with_a_queue() -> None:
    """A deleted queue excuses no more than was in it, or on its way to it; nothing that was accepted later."""
    made = account("a", "b", "c", "seen")
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
    rows = [account("a").row("f"), account("a", "b").row("g")]
    lines = table(rows).splitlines()
    assert lines[0] == (
        "| fault | kind | sent | accepted | delivered | repeated | parked | delayed | deleted | lost |"
    )
    assert lines[2] == "| f | inbound | 1 | 1 | 0 | 0 | 0 | 0 | 0 | 1 |"
    assert lines[4] == "| **all** |  | 3 | 3 | 0 | 0 | 0 | 0 | 0 | 3 |"


Arrived = list[tuple[str, str]]


@pytest.fixture
def arrived() -> Arrived:
    return []


@pytest.fixture
def receiver(arrived: Arrived) -> Iterator[Receiver]:
    with Receiver(lambda path, name: arrived.append((path, name))) as receiver:
        yield receiver


def post(receiver: Receiver, timeout: float = 5) -> int:
    """The status, after the whole answer."""
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=timeout)
    try:
        connection.request("POST", "/inbound", b"{}", {"webhook-id": "m"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_the_receiver_answers(receiver: Receiver, arrived: Arrived) -> None:
    """A request that is answered 200 has arrived, and one that gets a 500 has not."""
    assert post(receiver) == 200
    assert arrived == [("/inbound", "m")]
    receiver.mode = "500"
    assert post(receiver) == 500
    assert len(arrived) == 1


@pytest.mark.parametrize("mode", ["hang", "trickle", "reset"])
def test_the_receiver_fails(receiver: Receiver, arrived: Arrived, mode: Mode) -> None:
    """One that hangs or trickles its answer until the connection is reset, and one that resets it, has not arrived."""
    receiver.mode = mode

    def end() -> None:
        receiver.mode = "ok"

    timer = threading.Timer(0.2, end)
    timer.start()
    start = time.monotonic()
    with pytest.raises((OSError, http.client.HTTPException)):
        post(receiver)
    assert (time.monotonic() - start > 0.15) == (mode != "reset")
    timer.join()
    assert not arrived


def test_the_receiver_holds(receiver: Receiver, arrived: Arrived) -> None:
    """A request that is held is answered later; one whose client has gone has not arrived."""
    receiver.mode = "hold"
    with pytest.raises(TimeoutError):
        post(receiver, timeout=0.2)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(post(receiver)))
    waiting.start()
    time.sleep(0.2)
    assert not arrived
    receiver.mode = "ok"
    waiting.join()
    assert answers == [200]
    assert len(arrived) == 1
