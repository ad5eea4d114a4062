"""The middleware that logs a line for each message and event."""

from __future__ import annotations

import io
from typing import Any

import pytest
from twisted.logger import LogEvent, globalLogPublisher, textFileLogObserver

from junebug_turn.messages.vumi import Event
from tests.support.middlewares import ALL, made, message, result


@pytest.mark.parametrize(("options", "level"), [({}, "info"), ({"log_level": "WARNING"}, "warn")])
def test_logging(options: dict[str, Any], level: str) -> None:
    """A line for each message and event, without its text or a whole address; it changes nothing."""
    chain = made({"class_path": "vumi2.middlewares.logging.LoggingMiddleware", **ALL, **options})
    events: list[LogEvent] = []
    lines = io.StringIO()
    observers = (events.append, textFileLogObserver(lines))
    for observer in observers:
        globalLogPublisher.addObserver(observer)
    given_ = message("a s3cret diagnosis")
    event = Event(user_message_id="message-1", event_type="delivery_report", delivery_status="delivered")
    try:
        assert result(chain.inbound(given_)) is given_
        assert result(chain.outbound(given_)) is given_
        assert result(chain.event(event)) is event
    finally:
        for observer in observers:
            globalLogPublisher.removeObserver(observer)
    assert [each["log_level"].name for each in events] == [level] * 3
    text = lines.getvalue()
    assert "s3cret" not in text
    assert "26612345678" not in text
    assert "5678" in text
    assert text.count(given_.message_id) == 2
    assert "delivery_report of message message-1" in text
