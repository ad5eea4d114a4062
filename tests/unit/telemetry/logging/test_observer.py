"""Log lines: their form, what they tell and hide, and how often."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, formatEvent
from twisted.python import log as legacy
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from junebug_turn.telemetry.context import about, note
from junebug_turn.telemetry.logging.formats import json_line, mask, text_line, text_of
from junebug_turn.telemetry.logging.observer import Lines
from junebug_turn.telemetry.logging.repeats import MAX_CAUSES, WINDOW, Limiter


class Log:
    """A logger whose lines go to a file."""

    def __init__(self, folder: Path, level: str = "INFO", **options: Any) -> None:
        self.path = folder / "log"
        self.observer = Lines(level, {"logfile": str(self.path)}, **options)
        self.logger = Logger(namespace="junebug_turn.test", observer=self.observer)

    def say(self, said: str, log_level: Any = LogLevel.info, /, **fields: Any) -> None:
        """An event with a time that is known."""
        fields |= {"log_format": said, "log_level": log_level, "log_time": 1_700_000_000.0625}
        self.observer(fields | {"log_namespace": "junebug_turn.test"})

    @property
    def lines(self) -> list[str]:
        return self.path.read_text("utf-8").splitlines()

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Log]:
    return lambda *arguments, **options: Log(tmp_path, *arguments, **options)


def fault() -> Failure:
    try:
        raise LookupError("no +27820000001 here")
    except LookupError:
        return Failure()


class TestForm:
    def test_text(self, made: Callable[..., Log]) -> None:
        """A text line has the time in UTC, namespace, level and text."""
        log = made()
        log.say("{n} things", n=3)
        assert log.lines == ["2023-11-14T22:13:20.062Z [junebug_turn.test#info] 3 things"]

    def test_json(self, made: Callable[..., Log]) -> None:
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

    def test_json_names(self, made: Callable[..., Log]) -> None:
        """A named field can't take the place of the line's own."""
        log = made(log_format="json")
        log.say("said", **{"text": "no", "level": "no", "namespace": "no", "time": "no"})
        (line,) = log.objects
        assert (line["text"], line["level"], line["namespace"]) == ("said", "info", "junebug_turn.test")

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_failure(self, made: Callable[..., Log], log_format: str) -> None:
        """A bug's line has its traceback, in which telephone numbers are masked."""
        log = made(log_format=log_format)
        log.logger.failure("broken", failure=fault())
        text = log.path.read_text()
        assert "test_observer.py" in text
        assert "LookupError" in text
        assert "no ***0001 here" in text
        assert "27820000001" not in text
        if log_format == "json":
            (line,) = log.objects
            assert (line["text"], line["error"]) == ("broken", "LookupError")
            assert "LookupError: no ***0001 here" in line["traceback"]

    @given(text=st.text(st.characters(exclude_categories=())), value=st.text(st.characters()))
    def test_one_line(self, text: str, value: str) -> None:
        """Whatever a field holds, an event is one line, which no terminal is steered by."""
        event = {"log_format": "said {text}", "text": text, "log_context": ("id",), "id": value}
        for line in (text_line(event, False), json_line(event, False)):
            assert line.encode("utf-8").endswith(b"\n")
            assert len(line.splitlines()) == 1
            assert "\x1b" not in line

    def test_control_in_a_traceback(self, made: Callable[..., Log]) -> None:
        """Nor can the text of an exception: each line of a traceback begins with a tab, without control characters."""
        log = made()
        log.logger.failure("broken", failure=Failure(LookupError("a\r\nforged [x#info]\x1b[2J\x85b")))
        first, *others = log.path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        assert first.endswith("] broken")
        assert all(line.startswith("\t") for line in others)
        assert not {"\r", "\x1b", "\x85"} & set("".join(others))

    def test_broken_event(self, made: Callable[..., Log]) -> None:
        """An event that can't be formatted is a line nevertheless."""
        log = made(log_format="json")
        log.logger.info("{absent}")
        (line,) = log.objects
        assert "absent" in line["text"]

    @pytest.mark.parametrize(
        "said", ["{a} of {b!r}", "{b:>5}{c[0]}{{}}", "{d()} and {b.upper()}", "{0}", "{", "{absent()}", "{e}"]
    )
    def test_as_twisteds(self, said: str) -> None:
        """A text is what Twisted makes of an event, also where something is called, or can't be formatted."""

        class Broken:
            def __str__(self) -> str:
                raise LookupError

        event = {"log_format": said, "a": 1, "b": "x", "c": "yz", "d": lambda: "called", "e": Broken()}
        assert text_of(event, False) == formatEvent(event)

    @given(moment=st.floats(-1e9, 1e11))
    def test_time(self, moment: float) -> None:
        """A line has the time of its event in milliseconds, those that are complete."""
        line = text_line({"log_format": "said", "log_time": moment}, False)
        when = datetime.fromtimestamp(moment, UTC)
        assert line.startswith(f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z [")

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_legacy(self, made: Callable[..., Log], log_format: str) -> None:
        """An error said to twisted.python.log has one traceback; what Twisted says of itself is debug."""
        log = made(log_format=log_format)
        publisher = legacy.LogPublisher(publishPublisher=LogPublisher(log.observer))
        publisher.msg("Starting factory <x>")
        publisher.msg("no", "thing")
        assert not log.path.read_text()
        legacy_event = {"isError": 1, "failure": fault(), "why": "it broke", "message": (), "time": 0.0}
        publisher.msg(**legacy_event)
        assert log.path.read_text().count("Traceback") == 1
        assert "it broke" in log.path.read_text()

    def test_noise(self, made: Callable[..., Log]) -> None:
        """What Twisted itself says at info is shown at debug only."""
        twisteds = "twisted.internet.protocol"
        log = made()
        Logger(namespace=twisteds, observer=log.observer).info("Starting factory")
        Logger(namespace=twisteds, observer=log.observer).warn("odd")
        assert [line.split("] ")[1] for line in log.lines] == ["odd"]
        debug = made("DEBUG")
        Logger(namespace=twisteds, observer=debug.observer).info("Starting factory")
        assert "#debug] Starting factory" in debug.lines[-1]

    def test_reopen(self, made: Callable[..., Log]) -> None:
        """After a file was moved away, reopening writes a new one."""
        log = made()
        log.logger.info("one")
        log.path.rename(log.path.with_name("log.1"))
        log.observer.reopen()
        log.logger.info("two")
        assert [line.split("] ")[1] for line in log.lines] == ["two"]

    def test_interface(self, made: Callable[..., Log]) -> None:
        """It is an observer as Twisted wants one."""
        assert verifyObject(ILogObserver, made().observer)


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("+27820000001", "***0001"),
            ("*120*8864#", "***8864"),
            ("a1@example.org", "***1"),
            ("nobody", "***"),
            (27820000001, "***0001"),
        ],
    )
    def test_mask(self, address: object, shown: str) -> None:
        """Of an address the last four digits can be read."""
        assert mask(address) == shown

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_masked(self, made: Callable[..., Log], log_format: str) -> None:
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
    def test_full(self, made: Callable[..., Log], log_format: str) -> None:
        """With log_addresses full they are shown."""
        log = made(log_format=log_format, full_addresses=True)
        log.logger.info("to {to_addr}", to_addr="+27820000001")
        assert "to +27820000001" in log.path.read_text()

    def test_counted(self, made: Callable[..., Log]) -> None:
        """A count's line masks them, too."""
        log = made()
        for _ in range(3):
            log.logger.warn("to {to_addr}", to_addr="0820000001")
        log.observer.close()
        assert "... 2 times" in log.lines[1]
        assert "0820" not in log.path.read_text()


class TestContext:
    def test_within(self, made: Callable[..., Log]) -> None:
        """A line says what is being worked on, also where its text doesn't."""
        log = made()
        with about(connector="sms", message_id="m1"):
            log.logger.info("{message_id} came")
            with about(event_id="e1"):
                log.logger.info("gone")
        log.logger.info("idle")
        assert [line.split("] ")[1] for line in log.lines] == [
            "m1 came (connector=sms)",
            "gone (connector=sms message_id=m1 event_id=e1)",
            "idle",
        ]

    def test_coroutines(self, made: Callable[..., Log]) -> None:
        """What one coroutine works on isn't said by another that runs meanwhile, nor after it."""
        log = made(log_format="json")
        waits: dict[str, Deferred[None]] = {"a": Deferred(), "b": Deferred()}

        async def inner(name: str) -> None:
            await waits[name]
            log.logger.info("inner", log_every=True)

        async def work(name: str) -> None:
            note(message_id=name)
            await Deferred.fromCoroutine(inner(name))
            log.logger.info("outer", log_every=True)

        for name in waits:
            Deferred.fromCoroutine(work(name))
        for name in waits:
            waits[name].callback(None)
        log.logger.info("idle")
        assert [line.get("message_id") for line in log.objects] == ["a", "a", "b", "b", None]

    def test_exception(self, made: Callable[..., Log]) -> None:
        """Who logs an exception somewhere else says what was worked on when it was raised."""
        log = made(log_format="json")
        caught: list[Failure] = []

        async def work() -> None:
            with about(message_id="m1"):
                raise LookupError

        Deferred.fromCoroutine(work()).addErrback(caught.append)
        log.logger.failure("broken", failure=caught[0])
        assert log.objects[0]["message_id"] == "m1"


class Limited:
    """A limiter with a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.shown: list[LogEvent] = []
        self.limiter = Limiter(self.shown.append, seconds=lambda: self.now)
        self.log = Logger(namespace="test", observer=self.limiter)  # type: ignore[arg-type]

    def texts(self, lowest: LogLevel = LogLevel.info) -> list[str]:
        from twisted.logger import formatEvent

        shown, self.shown[:] = self.shown[:], []
        return [formatEvent(event) for event in shown if event["log_level"] >= lowest]


class TestLimit:
    def test_flood(self) -> None:
        """100,000 lines of one cause are a line and a count, and each is there at debug."""
        limited = Limited()
        for number in range(100_000):
            limited.log.warn("Parked {message_id}: {reason}", message_id=number, reason="timeout")
        assert limited.texts(LogLevel.debug)[:2] == ["Parked 0: timeout", "Parked 1: timeout"]
        limited.log.warn("Parked {message_id}: {reason}", message_id="last", reason="timeout")
        assert limited.texts() == []
        limited.now += WINDOW
        limited.limiter.flush()
        assert limited.texts() == ["... 100000 times in the last 60 s: Parked last: timeout"]

    def test_goes_on(self) -> None:
        """What goes on has a count a minute, and when it was silent for one it is a line again."""
        limited = Limited()
        for _ in range(180):
            limited.log.warn("again")
            limited.now += 1
        texts = limited.texts()
        assert texts == [
            "again",
            "... 59 times in the last 60 s: again",
            "... 60 times in the last 60 s: again",
        ]
        limited.now += 2 * WINDOW
        limited.limiter.flush()
        limited.now += 2 * WINDOW
        limited.log.warn("again")
        assert limited.texts() == ["... 60 times in the last 180 s: again", "again"][-2:]

    def test_causes(self) -> None:
        """Another connector, queue, origin or reason is another cause; another message is none."""
        limited = Limited()
        for field in ("connector", "queue", "origin", "reason"):
            for value in "ab":
                for message_id in "12":
                    limited.log.warn("it", message_id=message_id, **{field: value})
        assert len(limited.texts()) == 8

    def test_failures(self) -> None:
        """A failure's cause is its class and its place, and its count has no traceback."""
        limited = Limited()
        for _ in range(3):
            limited.log.failure("broken", failure=fault())
        limited.log.failure("broken", failure=Failure(KeyError("x")))
        assert len(limited.texts()) == 2
        limited.now += WINDOW
        limited.limiter.flush()
        (event,) = limited.shown
        assert "log_failure" not in event
        assert limited.texts() == ["... 2 times in the last 60 s: broken: LookupError"]

    def test_every(self) -> None:
        """Lines that tell how single messages fare well, and debug, are all shown."""
        limited = Limited()
        for _ in range(5):
            limited.log.info("published", log_every=True)
            limited.log.debug("detail")
        assert len(limited.texts(LogLevel.debug)) == 10

    def test_bounded(self) -> None:
        """Memory is bounded: beyond MAX_CAUSES the oldest cause is told and forgotten."""
        limited = Limited()
        limited.log.warn("w", reason="first")
        limited.log.warn("w", reason="first")
        for number in range(MAX_CAUSES):
            limited.log.warn("w", reason=number)
        assert len(limited.limiter._causes) == MAX_CAUSES
        assert "... 1 times in the last 0 s: w" in limited.texts()

    def test_close(self) -> None:
        """At the end the counts so far are told."""
        limited = Limited()
        limited.log.warn("w")
        limited.log.warn("w")
        limited.now += 5
        limited.limiter.close()
        assert limited.texts() == ["w", "... 1 times in the last 5 s: w"]
