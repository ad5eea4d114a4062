"""Parameters of requests to the operators' page and API: which messages, and how many.

Tested by tests/integration/test_operators_api.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from junebug_turn.config.durations import duration
from junebug_turn.errors import InvalidBody
from junebug_turn.http.admin.operators.backend import Choice
from junebug_turn.http.forms import query_of

KINDS = ("inbound", "event")
PARKED, DELAYED = {"state": "parked"}, {"state": "delayed"}
"""Variables of the routes of parked messages, and of those of delayed ones."""

CHOICE = ("connector", "kind", "reason", "destination", "older_than", "newer_than")

MAX_LIMIT = 1000
"""Messages that a request shows or replays at most."""

MAX_OFFSET = 10_000
"""Messages that a list may begin behind: those before it are looked at, too."""


class Parameters(Mapping[str, Any]):
    """The parameters of a request; whatever it doesn't take is refused, since a filter left out would be dangerous.

    :param known: the names that the request takes
    :param body: those in its body, which count more than those in its URL
    :raises InvalidBody: there are others, or one is given twice
    """

    def __init__(self, request: Any, known: Collection[str], body: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = {}
        for name, values in query_of(request).items():
            if len(values) > 1:
                raise InvalidBody(f"{_shown(name)} is given more than once")
            # An empty field of a form stands for none.
            if text := values[0].decode("utf-8", "replace"):
                self._values[name] = text
        self._values |= body or {}
        for name in self._values:
            if name not in known:
                raise InvalidBody(f"{_shown(name)} is unknown: there is {', '.join(known)}")

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def choice(self, state: str) -> Choice:
        """Return the choice of messages in a state, ``parked`` or ``delayed``.

        :raises InvalidBody: one of its values can't be used
        """
        for name in CHOICE:
            if not isinstance(self.get(name), str | None):
                raise InvalidBody(f"{name} must be a text")
        kind = self.get("kind")
        if kind not in (None, *KINDS):
            raise InvalidBody(f"kind must be {' or '.join(KINDS)}")
        ages = {name: self._duration(name) for name in ("older_than", "newer_than")}
        return Choice(
            self.get("connector"),
            kind,
            self.get("reason"),
            self.get("destination"),
            **ages,
            delayed=state == "delayed",
        )

    def _duration(self, name: str) -> float | None:
        text = self.get(name)
        try:
            return None if text is None else duration(text)
        except ValueError as error:
            raise InvalidBody(f"{name} {error}") from None

    @property
    def full(self) -> bool:
        """Whether addresses and bodies are asked for.

        :raises InvalidBody: it is neither true nor false
        """
        given = str(self.get("full", "false")).lower()
        if given not in ("true", "false"):
            raise InvalidBody("full must be true or false")
        return given == "true"

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number.

        :raises InvalidBody: it is none, or out of its range
        """
        given = self.get(name, default)
        try:
            value = int(given) if isinstance(given, int | str) and not isinstance(given, bool) else -1
        except ValueError:
            value = -1
        if not least <= value <= most:
            raise InvalidBody(f"{name} must be a whole number from {least} to {most}")
        return value


def _shown(name: str) -> str:
    return repr(name[:50].encode("latin-1", "replace").decode("utf-8", "replace"))
