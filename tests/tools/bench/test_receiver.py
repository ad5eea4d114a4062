"""The cheap receiver of the benchmark."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench import load
from tools.bench.messages import inbound_body
from tools.bench.processes import Receiver, get


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as receiver:
        yield receiver


def test_the_receiver_notes_what_comes(receiver: Receiver, tmp_path: Path) -> None:
    """The receiver counts the messages and notes when each came, by its id, once."""
    ids = [f"{number:032x}" for number in range(30)]
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"\n".join(inbound_body(message_id) for message_id in ids))
    before = time.time()
    timed = load.at_rate(f"{receiver.url}/inbound", bodies, rate=20, seconds=1)
    assert len(timed) == 20
    assert get(f"{receiver.url}/count") == 30
    log = get(f"{receiver.url}/log")
    assert set(log) == set(ids)
    assert all(before <= at <= time.time() for at in log.values())
    assert get(f"{receiver.url}/log") == {}


def test_it_holds_answers(receiver: Receiver) -> None:
    """While it holds, POSTs are counted and not answered; the release answers them all."""
    get(f"{receiver.url}/hold")
    answered = []

    def post() -> None:
        with urllib.request.urlopen(f"{receiver.url}/inbound", b"{}", timeout=10) as answer:
            answered.append(answer.status)

    posting = threading.Thread(target=post)
    posting.start()
    receiver.wait_for_count(1)
    assert not answered
    get(f"{receiver.url}/release")
    posting.join(10)
    assert answered == [200]
