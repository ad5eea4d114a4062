"""The form of log lines, and what they hide."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel, formatEvent
from twisted.python.failure import Failure

from junebug_turn.errors import UnreadableMessage
from junebug_turn.telemetry.context import about
from junebug_turn.telemetry.logging.formats import MAX_ID, MAX_TEXT, json_line, text_line, text_of
from tests.support.log import Log, fault


def test_text(made: Callable[..., Log]) -> None:
    """A text line has the time in UTC, namespace, level and text."""
    log = made()
    log.say("{n} things", n=3)
    assert log.lines == ["2023-11-14T22:13:20.062Z [junebug_turn.test#info] 3 things"]


def test_json(made: Callable[..., Log]) -> None:
    """With log_format json a line is an object with time, level, namespace, text and the named fields."""
    log = made(log_format="json")
    log.say("{n} things of {thing}", LogLevel.warn, n=3, thing=object, far=float("inf"))
    assert log.objects == [
        {
            "time": "2023-11-14T22:13:20.062Z",
            "level": "warn",
            "namespace": "junebug_turn.test",
            "text": "3 things of <class 'object'>",
            "n": 3,
            "thing": "<class 'object'>",
            "far": "inf",
        }
    ]


def test_json_names(made: Callable[..., Log]) -> None:
    """A named field can't take the place of the line's own."""
    log = made(log_format="json")
    log.say("said", **{"text": "no", "level": "no", "namespace": "no", "time": "no"})
    (line,) = log.objects
    assert (line["text"], line["level"], line["namespace"]) == ("said", "info", "junebug_turn.test")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_failure(made: Callable[..., Log], log_format: str) -> None:
    """A bug's line has its traceback, in which telephone numbers are masked; at DEBUG with any exception's text."""
    log = made("DEBUG", log_format=log_format)
    log.logger.failure("broken", failure=fault())
    text = log.path.read_text()
    assert "support/log.py" in text
    assert "LookupError" in text
    assert "no ***0001 here" in text
    assert "27820000001" not in text
    if log_format == "json":
        (line,) = log.objects
        assert (line["text"], line["error"]) == ("broken", "LookupError")
        assert "LookupError: no ***0001 here" in line["traceback"]


class Quoting(Exception):
    """A foreign exception."""


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "text", ["it's Alice, HIV positive", "two\nlines: of Alice", ": Alice\n", "Alice: Alice"]
)
def test_foreign_text(made: Callable[..., Log], log_format: str, text: str) -> None:
    """Above DEBUG a traceback has no text of a foreign exception, such as a middleware's, which may quote a message;
    its class and its places are there, and so is the text of an exception of ours."""
    log = made(log_format=log_format)
    for each in (Quoting(text), UnreadableMessage("not JSON")):
        try:
            raise each
        except Exception:
            log.logger.failure("broken")
    shown = log.path.read_text()
    assert "Alice" not in shown
    assert shown.count("test_formats.py") == 2
    assert "Quoting: (left out: it may quote a message; log_level DEBUG shows it)" in shown
    assert "UnreadableMessage: not JSON" in shown


def test_no_text(made: Callable[..., Log]) -> None:
    """An exception without a text keeps its traceback, and one whose text can't be made has none."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise LookupError

    log = made()
    log.logger.failure("empty", failure=Failure(LookupError()))
    log.logger.failure("broken", failure=Failure(Broken()))
    text = log.path.read_text()
    assert "builtins.LookupError: \n" in text
    assert "(no traceback" in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_long_ids_and_texts(made: Callable[..., Log], log_format: str) -> None:
    """Of an id a line has 100 characters, wherever it stands, and of any text 8,000: a peer's may have megabytes."""
    log = made(log_format=log_format)
    with about(message_id="m" * 10**6):
        log.logger.info("of {event_id}", event_id="e" * 10**6)
    log.logger.info("{error!s}", error=ValueError("x" * 10**6))
    first, second = log.lines
    assert "of " + "e" * MAX_ID + "..." in first
    assert len(first) < 1000
    assert MAX_TEXT < len(second) < 2 * MAX_TEXT + 1000


@given(text=st.text(st.characters(exclude_categories=())), value=st.text(st.characters()))
def test_one_line(text: str, value: str) -> None:
    """Whatever a field holds, an event is one line, which no terminal is steered by."""
    event = {"log_format": "said {text}", "text": text, "log_context": ("id",), "id": value}
    for line in (text_line(event, False), json_line(event, False)):
        assert line.encode("utf-8").endswith(b"\n")
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line


def test_control_in_a_traceback(made: Callable[..., Log]) -> None:
    """Nor can the text of an exception: each line of a traceback begins with a tab, without control characters."""
    log = made()
    log.logger.failure("broken", failure=Failure(LookupError("a\r\nforged [x#info]\x1b[2J\x85b")))
    first, *others = log.path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    assert first.endswith("] broken")
    assert all(line.startswith("\t") for line in others)
    assert not {"\r", "\x1b", "\x85"} & set("".join(others))


def test_broken_event(made: Callable[..., Log]) -> None:
    """An event that can't be formatted is a line nevertheless."""
    log = made(log_format="json")
    log.logger.info("{absent}")
    (line,) = log.objects
    assert "absent" in line["text"]


@pytest.mark.parametrize(
    "said", ["{a} of {b!r}", "{b:>5}{c[0]}{{}}", "{d()} and {b.upper()}", "{0}", "{", "{absent()}", "{e}"]
)
def test_as_twisteds(said: str) -> None:
    """A text is what Twisted makes of an event, also where something is called, or can't be formatted."""

    class Broken:
        def __str__(self) -> str:
            raise LookupError

    event = {"log_format": said, "a": 1, "b": "x", "c": "yz", "d": lambda: "called", "e": Broken()}
    assert text_of(event, False) == formatEvent(event)


@given(moment=st.floats(-1e9, 1e11))
def test_time(moment: float) -> None:
    """A line has the time of its event in milliseconds, those that are complete."""
    line = text_line({"log_format": "said", "log_time": moment}, False)
    when = datetime.fromtimestamp(moment, UTC)
    assert line.startswith(f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z [")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_masked(made: Callable[..., Log], log_format: str) -> None:
    """Fields named addr or *_addr are masked, in the text and beside it; so is a number anywhere."""
    log = made(log_format=log_format)
    with about(from_addr="0820000002"):
        log.logger.info("to {to_addr} why {reason}", to_addr="0820000001", reason="bad +27820000003")
        log.logger.info("other", error=ValueError("bad +27820000003"))
    text = log.path.read_text()
    assert "to ***0001 why bad ***0003" in text
    assert "***0002" in text
    assert "82000" not in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_full(made: Callable[..., Log], log_format: str) -> None:
    """With log_addresses full they are shown."""
    log = made(log_format=log_format, full_addresses=True)
    log.logger.info("to {to_addr}", to_addr="+27820000001")
    assert "to +27820000001" in log.path.read_text()
