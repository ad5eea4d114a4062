"""The context of log lines, as the lines show it."""

from __future__ import annotations

import gc
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from junebug_turn.telemetry.context import about, debugging, hear_debug, note
from tests.support.log import Log


def test_debugging() -> None:
    """Debug lines may be heard until someone says that they are not."""
    assert debugging()
    hear_debug(False)
    try:
        assert not debugging()
    finally:
        hear_debug(True)


class TestContext:
    def test_a_coroutine_that_is_thrown_away(self, made: Callable[..., Log]) -> None:
        """Work that nobody waits for any more leaves nothing of its context to other lines."""

        async def work() -> None:
            note(trace_id="t1")
            with about(connector="sms"):
                await Deferred()

        log = made()
        working = Deferred.fromCoroutine(work())
        del working
        gc.collect()
        log.logger.info("another")
        assert log.lines[-1].endswith("] another")

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
