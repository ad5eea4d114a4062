"""The overview of the operators' page, with many connectors."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.template import flattenString

from junebug_turn.http.admin.operators.backend import Overview
from junebug_turn.http.admin.operators.views.overview import CHUNK, CONNECTORS, Part, overview


def connector(number: int, **changes: Any) -> dict[str, Any]:
    queue = {"messages": 0, "consumers": 1, "live": True}
    return {
        "name": f"connector-{number:03}",
        "application": "junebug",
        "paused": False,
        "transport": "up",
        "queues": {"inbound": queue, "event": queue, "outbound": queue},
        "parked": {"inbound": 0, "event": 0},
        "rates": {"inbound": 1.0, "event": 2.0, "outbound": None},
    } | changes


class Page:
    """The overview of these connectors; each turn of the reactor is one of ``turns``."""

    def __init__(self, *connectors: Any, **part: Any) -> None:
        self.turns: list[Deferred[None]] = []
        state = Overview(
            "yes", [], {"connected": True, "publishing": True, "blocked": False}, connectors, {}, 0, {}
        )
        self._flattened = flattenString(
            None,
            overview(state, Part(**part), "12:00:00 UTC", "token", self._turn),  # type: ignore[arg-type]
        )

    def _turn(self) -> Deferred[None]:
        self.turns.append(Deferred())
        return self.turns[-1]

    def text(self) -> str:
        found: list[bytes] = []
        self._flattened.addCallback(found.append)
        for turn in self.turns:
            turn.callback(None)
        return found[0].decode()


def test_turns() -> None:
    """The rows of many connectors are made in several turns of the reactor, so that messages flow meanwhile."""
    page = Page(*(connector(number) for number in range(500)))
    assert len(page.turns) == 1
    text = page.text()
    assert len(page.turns) == CONNECTORS // CHUNK
    assert text.count("<tr>") == 1 + CONNECTORS


def test_those_that_want_attention() -> None:
    """Connectors that are paused, not consumed, without a transport or with parked messages come first."""
    dead = {"messages": 0, "consumers": 0, "live": False}
    queue = {"messages": 0, "consumers": 1, "live": True}
    wanting = [
        connector(400, paused=True),
        connector(401, transport="down"),
        connector(402, parked={"inbound": None, "event": 1}),
        connector(403, queues={"inbound": dead, "event": queue, "outbound": queue}),
    ]
    text = Page(*(connector(number) for number in range(300)), *wanting).text()
    first = [text.index(f"connector-{number} <") for number in (400, 401, 402, 403)]
    assert max(first) < text.index("connector-000")


def test_pages() -> None:
    """Further connectors are on further pages, and are found by a part of their names."""
    every = [connector(number) for number in range(250)]
    assert "1 to 100 of 250" in Page(*every).text()
    last = Page(*every, offset=200).text()
    assert "201 to 250 of 250" in last
    assert "Further ones" not in last
    found = Page(*every, find="24").text()
    assert found.count('scope="row"') == 13  # 024, 124, 224, 240 to 249
    assert "none" not in found
    assert "There are none." in Page(*every, find="x").text()
