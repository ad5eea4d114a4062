"""Search of all that is logged and answered in a test run for the secrets that the daemons were given.

Tested by tests/tools/test_leaks.py.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.logger import LogEvent, formatEventAsClassicLogText

from junebug_turn.config.report import OPEN, plain
from junebug_turn.daemon.settings import Explained

SHORTEST = 8
"""Characters; a shorter secret is not searched for."""


class Leaks:
    """The known secrets, and the search of texts for them.

    :ivar found: the secrets found, with where; a test run must end with none
    :ivar searched: how many texts were searched
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self.found: list[str] = []
        self.searched = 0

    def secret(self, *values: str) -> None:
        """Search for these from now on."""
        self._secrets.update(value for value in values if len(value) >= SHORTEST)

    def secrets_of(self, explained: Explained) -> None:
        """Search for the secrets of a configuration from now on."""
        for report in (explained.daemon, *explained.applications):
            for each in report.values():
                if each.option.secret:
                    self._collect(plain(each.value))

    def _collect(self, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in OPEN:
                    self._collect(inner)
        elif isinstance(value, list):
            for inner in value:
                self._collect(inner)
        elif isinstance(value, str):
            if "://" not in value:
                self.secret(value)
                return
            password = urlsplit(value).password
            if password:
                self.secret(password, unquote(password))

    def search(self, where: str, text: str) -> None:
        """Search a text."""
        self.searched += 1
        for secret in self._secrets:
            if secret in text:
                self.found.append(f"{where} has the secret {secret!r}: {text[:1000]}")

    def observe(self, event: LogEvent) -> None:
        """Search a log event, as it would be written with its traceback, and all its fields."""
        text = formatEventAsClassicLogText(event)
        if text is not None:
            self.search("a log line", text)


LEAKS = Leaks()
