"""How often a log line is shown."""

from __future__ import annotations

import gc
import time
import weakref

from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.python.log import LogPublisher

from junebug_turn.telemetry.logging.repeats import MAX_CAUSES, WINDOW, Limiter
from tests.support.log import fault


class Limited:
    """A limiter with a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.shown: list[LogEvent] = []
        self.limiter = Limiter(self.shown.append, seconds=lambda: self.now)
        self.log = Logger(namespace="test", observer=self.limiter)  # type: ignore[arg-type]

    def texts(self, lowest: LogLevel = LogLevel.info) -> list[str]:
        shown, self.shown[:] = self.shown[:], []
        return [formatEvent(event) for event in shown if event["log_level"] >= lowest]


class TestLimit:
    def test_flood(self) -> None:
        """100,000 lines of one cause are a line and a count, and each is there at debug."""
        limited = Limited()
        for number in range(100_000):
            limited.log.warn("Refused {number}: {reason}", number=number, reason="timeout")
        assert limited.texts(LogLevel.debug)[:2] == ["Refused 0: timeout", "Refused 1: timeout"]
        limited.log.warn("Refused {number}: {reason}", number="last", reason="timeout")
        assert limited.texts() == []
        limited.now += WINDOW
        limited.limiter.flush()
        assert limited.texts() == ["... 100000 times in the last 60 s: Refused last: timeout"]

    def test_messages(self) -> None:
        """No line of a single message is rate-limited away: each message has its own, with its id."""
        limited = Limited()
        ids = [f"m{number}" for number in range(1000)]
        for message_id in ids:
            limited.log.warn(
                "Did not publish {message_id}: {reason}", message_id=message_id, reason="timeout"
            )
        assert limited.texts() == [f"Did not publish {message_id}: timeout" for message_id in ids]
        limited.now += WINDOW
        limited.limiter.flush()
        assert limited.texts() == []

    def test_faults_of_messages(self) -> None:
        """A fault in many messages has a line for each, and the traceback of the first one only."""
        limited = Limited()
        for message_id in ("m1", "m2", "m3"):
            limited.log.failure("Fault in {message_id}", failure=fault(), message_id=message_id)
        assert ["log_failure" in event for event in limited.shown] == [True, False, False]
        assert {event["log_level"] for event in limited.shown} == {LogLevel.critical}
        assert limited.texts() == ["Fault in m1", "Fault in m2: LookupError", "Fault in m3: LookupError"]
        limited.now += WINDOW
        limited.limiter.flush()
        assert limited.texts() == []

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
        """Another connector, queue, origin or reason is another cause; another number is none."""
        limited = Limited()
        for field in ("connector", "queue", "origin", "reason"):
            for value in "ab":
                for number in "12":
                    limited.log.warn("it", number=number, **{field: value})
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

    def test_texts_of_exceptions(self) -> None:
        """The text of a foreign exception makes no cause of its own, in a legacy line neither: a peer may choose it."""
        limited = Limited()
        legacy = LogPublisher(publishPublisher=limited.limiter)  # type: ignore[arg-type]
        for number in range(200):
            try:
                raise ValueError(f"{'9' * 20} {number}")
            except ValueError as error:
                limited.log.failure("broken")
                limited.log.warn("can't do it: {error}", error=error)
                legacy.msg(failure=Failure(), isError=1, why=None)
        texts = limited.texts()
        assert len(texts) == 3, texts[:9]

    def test_nothing_is_held(self) -> None:
        """A cause holds no object: neither the source of its lines, nor the frames of a traceback."""

        class Source:
            def fail(self) -> None:
                log = Logger(namespace="test", source=self, observer=limited.limiter)  # type: ignore[arg-type]
                log.warn("it")
                try:
                    raise ValueError
                except ValueError:
                    log.failure("broken")

        limited = Limited()
        source = Source()
        for _ in range(3):
            source.fail()
        limited.shown.clear()
        gone = weakref.ref(source)
        del source
        gc.collect()
        assert gone() is None

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
        # How much is remembered shows in no line.
        # private: what is remembered shows in the memory only.
        assert len(limited.limiter._causes) == MAX_CAUSES
        assert "... once more in the last 0 s: w" in limited.texts()

    def test_the_time_of_a_count(self) -> None:
        """A count has the time at which it is shown, not that of its last line: times in a log don't go back."""
        limited = Limited()
        for _ in range(2):
            limited.log.warn("w", log_time=0)
        limited.log.warn("another")
        before = time.time()
        limited.limiter.flush(everything=True)
        assert limited.shown[-1]["log_time"] >= before

    def test_close(self) -> None:
        """At the end the counts so far are told."""
        limited = Limited()
        limited.log.warn("w")
        limited.log.warn("w")
        limited.now += 5
        limited.limiter.flush(everything=True)
        assert limited.texts() == ["w", "... once more in the last 5 s: w"]
