"""The bound of the messages whose outcome at the broker is not known."""

from __future__ import annotations

from junebug_turn.amqp.backlog import MAX_BYTES, MAX_MESSAGES, OVERHEAD, Backlog


def test_bounds() -> None:
    """It takes 5,000 messages, and 64 MB, and again what has left."""
    assert (MAX_MESSAGES, MAX_BYTES) == (5000, 64 * 1024 * 1024)
    few = Backlog(max_messages=2)
    few.add(b"")
    few.add(b"")
    assert not few.takes(b"")
    few.remove(b"")
    assert few.takes(b"")
    large = Backlog()
    body = bytes(MAX_BYTES // 4 - OVERHEAD)
    for _ in range(4):
        assert large.takes(body)
        large.add(body)
    assert (large.messages, large.size) == (4, MAX_BYTES)
    assert not large.takes(b"")


def test_one_may_have_any_size() -> None:
    """A message over the bound is taken where no other is there: otherwise it would never be."""
    backlog = Backlog(max_bytes=1)
    assert backlog.takes(b"large")
    backlog.add(b"large")
    assert not backlog.takes(b"")
