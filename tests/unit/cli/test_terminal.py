"""Lines at a terminal, and the run of a command in a reactor."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from junebug_turn.cli.terminal import COLUMNS, INTERRUPTED, age, plain, row, run_in_reactor


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (65, "1m 5s"), (7300, "2h 1m"), (90000, "1d 1h"), (-5, "0s")]
)
def test_age(seconds: float, text: str) -> None:
    """An age has its two largest units."""
    assert age(seconds) == text


def test_plain() -> None:
    """No value moves the cursor, changes colours or begins a line."""
    assert plain("a\x1b[31m\nb\x9bc") == "a?[31m?b?c"
    assert plain(7) == "7"


def test_row() -> None:
    """A row has a value in each column, cut where it is long, and a hyphen where there is none."""
    values: dict[str, Any] = dict.fromkeys(COLUMNS) | {"id": "x" * 100, "kind": "event"}
    words = row(values).split()
    assert words[:2] == ["x" * 64, "event"]
    assert words[2:] == ["-"] * (len(COLUMNS) - 2)


class Reactor(MemoryReactorClock):
    """A reactor whose run makes the calls that wait for it, then receives Ctrl-C unless it was stopped."""

    def run(self) -> None:
        super().run()
        if not self.hasStopped:
            for function, args, kwargs in self.triggers["before"]["shutdown"]:
                function(*args, **kwargs)


class TestRunInReactor:
    def test_result(self) -> None:
        """The result of the work ends the run, and is returned."""

        async def work() -> int:
            return 3

        assert run_in_reactor(Reactor(), work) == 3

    def test_failure(self) -> None:
        """A failure of the work ends the run, and is raised."""

        async def work() -> int:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            run_in_reactor(Reactor(), work)

    def test_interrupted(self) -> None:
        """After Ctrl-C the status is 130, whatever becomes of the work while the reactor stops."""
        waiting: Deferred[int] = Deferred()

        async def work() -> int:
            return await waiting

        with pytest.raises(SystemExit) as caught:
            run_in_reactor(Reactor(), work)
        assert caught.value.code == INTERRUPTED
        waiting.errback(ConnectionError("lost"))
