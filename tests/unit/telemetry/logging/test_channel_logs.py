"""The last log lines of each channel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import Logger, globalLogPublisher

from junebug_turn.telemetry.context import about
from junebug_turn.telemetry.logging.channel_logs import ChannelLogs

log = Logger("junebug_turn.Test")


@pytest.fixture
def logs() -> Iterator[ChannelLogs]:
    logs = ChannelLogs(3)
    logs.add("c1")
    globalLogPublisher.addObserver(logs)
    yield logs
    globalLogPublisher.removeObserver(logs)


def test_lines(logs: ChannelLogs) -> None:
    """A line about a channel is kept, whether it names it or its context does: logger, level, time, and text."""
    log.warn("no {what} on {connector}", what="luck", connector="c1")
    with about(connector="c1"):
        log.info("from {from_addr}", from_addr="+27831234567")
    log.debug("nothing", connector="c1")
    log.info("another", connector="c2")
    second, first = logs.latest("c1")
    assert isinstance(first.pop("timestamp"), float)
    assert first == {"logger": "junebug_turn.test", "level": 30, "message": "no luck on c1"}
    assert (second["level"], second["message"]) == (20, "from ***4567")
    assert logs.latest("c2") == []


def test_the_newest(logs: ChannelLogs) -> None:
    """The newest lines come first, no more than are kept, and no more than are asked for."""
    for number in range(5):
        log.info("{number}", number=number, connector="c1")
    assert [line["message"] for line in logs.latest("c1")] == ["4", "3", "2"]
    assert [line["message"] for line in logs.latest("c1", 2)] == ["4", "3"]
    assert logs.latest("c1", 0) == logs.latest("c1", -1) == []
    assert len(logs.latest("c1", 10)) == 3
    logs.remove("c1")
    assert logs.latest("c1") == []


def test_a_failure(logs: ChannelLogs) -> None:
    """A line with a failure has its class, its text and where it was."""
    try:
        raise ValueError("to +27831234567")
    except ValueError:
        log.failure("a fault", connector="c1")
    (line,) = logs.latest("c1")
    assert (line["level"], line["message"]) == (50, "a fault")
    assert line["exception"]["class"] == "ValueError"
    assert line["exception"]["instance"] == "to ***4567"
    assert "test_a_failure" in line["exception"]["stack"][-1]
