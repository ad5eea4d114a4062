"""A logger whose lines a test reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from junebug_turn.telemetry.logging.observer import Lines


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


def fault() -> Failure:
    try:
        raise LookupError("no +27820000001 here")
    except LookupError:
        return Failure()
