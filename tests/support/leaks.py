"""What was logged and answered in the whole test run, searched for the secrets that the daemons were given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.logger import LogEvent, formatEventAsClassicLogText

from junebug_turn.config.report import OPEN, Told, plain

SHORTEST = 8
"""Characters; what is shorter may stand anywhere."""


class Leaks:
    """Knows the secrets, and searches each text that it is shown for them.

    :ivar found: what was found, for a person; nobody wants any
    :ivar searched: how many texts were searched
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self.found: list[str] = []
        self.searched = 0

    def secret(self, *values: str) -> None:
        """These must not stand anywhere from now on."""
        self._secrets.update(value for value in values if len(value) >= SHORTEST)

    def secrets_of(self, told: Iterable[Told]) -> None:
        """The secrets of a configuration must not stand anywhere from now on."""
        for each in told:
            if each.secret:
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
