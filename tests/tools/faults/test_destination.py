"""The destination of the fault suite: its modes, and what counts as arrived."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tools.faults.destination import Destination, Mode

Arrived = list[tuple[str, str]]


@pytest.fixture
def arrived() -> Arrived:
    return []


@pytest.fixture
def destination(arrived: Arrived) -> Iterator[Destination]:
    with Destination(lambda path, name: arrived.append((path, name))) as destination:
        yield destination


def post(destination: Destination, name: str, timeout: float = 5) -> int:
    """The status, after the whole answer."""
    connection = http.client.HTTPConnection(urlsplit(destination.url).netloc, timeout=timeout)
    try:
        connection.request("POST", "/inbound", b"{}", {"webhook-id": name})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def only(arrived: Arrived, *names: str) -> None:
    """Wait until as many have arrived, which are these: they are reported in the order of their answers."""
    deadline = time.monotonic() + 60
    while len(arrived) < len(names) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert arrived == [("/inbound", name) for name in names]


def test_it_answers(destination: Destination, arrived: Arrived) -> None:
    """A request that is answered 200 has arrived, and one that gets a 500 has not."""
    assert post(destination, "one") == 200
    destination.mode = "500"
    assert post(destination, "two") == 500
    destination.mode = "ok"
    assert post(destination, "three") == 200
    only(arrived, "one", "three")


@pytest.mark.parametrize("mode", ["hang", "trickle", "reset"])
def test_it_fails(destination: Destination, arrived: Arrived, mode: Mode) -> None:
    """One that hangs or trickles its answer until the connection is reset, and one that resets it, has not arrived."""
    destination.mode = mode

    def end() -> None:
        destination.mode = "ok"

    # A reset waits for nothing: the timer is for the others.
    timer = threading.Timer(60 if mode == "reset" else 0.2, end)
    timer.start()
    start = time.monotonic()
    with pytest.raises((OSError, http.client.HTTPException)):
        post(destination, "failed")
    assert mode == "reset" or time.monotonic() - start > 0.15
    timer.cancel()
    timer.join()
    end()
    post(destination, "after")
    only(arrived, "after")


def test_it_holds(destination: Destination, arrived: Arrived) -> None:
    """A request that is held is answered later; one whose client has gone has not arrived."""
    destination.mode = "hold"
    with pytest.raises(TimeoutError):
        post(destination, "gone", timeout=0.2)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(post(destination, "held")))
    waiting.start()
    time.sleep(0.2)
    assert not answers
    destination.mode = "ok"
    waiting.join()
    assert answers == [200]
    post(destination, "after")
    only(arrived, "held", "after")


def test_it_refuses_one(destination: Destination, arrived: Arrived) -> None:
    """The first inbound message is refused each time, and reported as such; all others are taken."""
    destination.mode = "one-404"
    assert [post(destination, name) for name in ("one", "two", "one", "three")] == [404, 200, 404, 200]
    destination.mode = "ok"
    assert post(destination, "one") == 200
    deadline = time.monotonic() + 60
    while len(arrived) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert arrived == [("/refused", "one"), *(("/inbound", name) for name in ("two", "three", "one"))]
