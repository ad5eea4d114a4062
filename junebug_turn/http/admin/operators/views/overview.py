"""The overview of the operators' page.

Tested by tests/integration/test_operators_page.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from attrs import frozen
from twisted.web.template import Tag, tags

from junebug_turn.http.admin.operators.backend import Json, Overview
from junebug_turn.http.admin.operators.views.layout import (
    badge,
    button,
    cell,
    page,
    shown_number,
    table,
    total,
)

CONNECTORS = 100
"""Connectors on one page, those that want attention first."""

CHUNK = 10
"""Rows that are made in one turn of the reactor."""

_FLOWS = {
    "yes": "Messages flow.",
    "partly": "Messages flow, but not everywhere.",
    "no": "No messages flow.",
}
_TRANSPORT = {
    "up": ("transport is there", "yes"),
    "down": ("no transport", "no"),
    "unknown": ("transport unknown", "partly"),
}

Turn = Callable[[], Awaitable[object]]
"""Returns in another turn of the reactor: a hundred rows take tens of milliseconds."""


@frozen
class Part:
    """The part of the connectors that a page shows.

    :ivar find: a part of their names
    :ivar offset: how many stand on the pages before
    """

    find: str = ""
    offset: int = 0


def overview(state: Overview, part: Part, now: str, token: str, turn: Turn, *, done: str = "") -> Tag:
    """Return the overview: does it flow, and the state of every part."""
    live = tags.div(
        _flow(state),
        tags.h2("Connectors"),
        _connectors(state.connectors, part, token, turn),
        _circuits(state),
        tags.h2("Broker"),
        tags.p(_broker(state.broker)),
        tags.h2("Delayed messages"),
        _delayed(state.delayed),
        tags.footer(f"As of {now}. Queues are counted every 15 seconds; rates are messages a minute."),
        id="live",
    )
    stale = tags.p("Not up to date: the daemon doesn't answer.", class_="notice no stale-note", role="alert")
    return page("Overview", stale, live, done=done)


def _flow(state: Overview) -> Tag:
    reasons = [tags.ul(*(tags.li(reason) for reason in state.reasons))] if state.reasons else []
    return tags.section(tags.strong(_FLOWS[state.flows]), *reasons, class_=f"flow {state.flows}", id="flow")


def _connectors(connectors: Sequence[Json], part: Part, token: str, turn: Turn) -> list[Tag]:
    found = [each for each in connectors if part.find in each["name"]]
    found.sort(key=lambda each: (not _wants_attention(each), each["name"]))
    shown = found[part.offset : part.offset + CONNECTORS]

    async def rows(some: Sequence[Json]) -> list[Tag]:
        await turn()
        return [_connector(each, token) for each in some]

    chunks: list[Any] = [rows(shown[start : start + CHUNK]) for start in range(0, len(shown), CHUNK)]
    content: list[Tag] = []
    if len(connectors) > CONNECTORS:
        field = tags.input(name="find", value=part.find, placeholder="name", **{"aria-label": "name"})
        content.append(tags.form(field, tags.button("Find"), method="get", action="/", class_="filter"))
    if chunks:
        content.append(table(("Connector", "Outbound", "Inbound", "Events", "Parked", ""), chunks))
    else:
        content.append(tags.p("There are none.", class_="empty"))
    if len(found) > len(shown):
        content.append(_paging(part, len(found)))
    return content


def _paging(part: Part, count: int) -> Tag:
    def link(text: str, offset: int) -> Tag:
        return tags.a(text, href=f"/?{urlencode({'find': part.find, 'offset': str(offset)})}")

    last = min(part.offset + CONNECTORS, count)
    links: list[Any] = [f"{part.offset + 1} to {last} of {count}"]
    if part.offset:
        links.append(link("Former ones", max(0, part.offset - CONNECTORS)))
    if last < count:
        links.append(link("Further ones", last))
    return tags.div(*links, class_="actions")


def _wants_attention(each: Json) -> bool:
    ours = (each["queues"][kind]["live"] is False for kind in ("inbound", "event"))
    return bool(each["paused"] or each["transport"] == "down" or any(ours) or total(each["parked"].values()))


def _connector(each: Json, token: str) -> Tag:
    name, queues, rates, parked = each["name"], each["queues"], each["rates"], each["parked"]
    transport, kind = _TRANSPORT[each["transport"]]
    number = total(parked.values())
    link = f"/parked?{urlencode({'connector': name})}"
    order = "resume" if each["paused"] else "pause"
    mark: list[Any] = [" ", badge("paused", "partly")] if each["paused"] else []
    return tags.tr(
        tags.th(name, " ", tags.small(each["application"]), *mark, scope="row"),
        cell("Outbound", _numbers(queues["outbound"], rates["outbound"]), " ", badge(transport, kind)),
        cell("Inbound", _numbers(queues["inbound"], rates["inbound"]), *_consumed(each, "inbound")),
        cell("Events", _numbers(queues["event"], rates["event"]), *_consumed(each, "event")),
        cell("Parked", tags.a(shown_number(number), href=link)),
        tags.td(button(f"/connectors/{quote(name, safe='')}/{order}", order.capitalize(), token, {})),
    )


def _consumed(each: Json, kind: str) -> list[Any]:
    live = each["queues"][kind]["live"]
    return [] if each["paused"] or live else [" ", badge("not consumed", "no")]


def _numbers(queue: Json, rate: float | None) -> str:
    return f"{shown_number(queue['messages'])} waiting, {shown_number(rate)}/min"


def _circuits(state: Overview) -> list[Tag]:
    if not state.circuits and not state.other_circuits:
        return []
    rows = [
        tags.tr(
            tags.th(origin, scope="row"),
            cell("Since", circuit["since"]),
            cell("Fault", str(circuit["fault"])),
        )
        for origin, circuit in state.circuits.items()
    ]
    more = [tags.p(f"URLs of clients that are down: {state.other_circuits}")] if state.other_circuits else []
    named = [table(("Destination", "Since", "Fault"), rows)] if rows else []
    return [tags.h2("Destinations that are down"), *named, *more]


def _broker(broker: Json) -> str:
    if not broker["connected"]:
        return "Not connected; the daemon goes on trying."
    if broker["blocked"]:
        return "Connected, but it takes no messages for now."
    return "Connected." if broker["publishing"] else "Connected, but the daemon can't publish."


def _delayed(delayed: Mapping[str, int]) -> Tag:
    waiting = {delay: messages for delay, messages in delayed.items() if messages}
    if not waiting:
        return tags.p("None.", class_="empty")
    rows = [
        tags.tr(tags.th(f"tried again within {delay}", scope="row"), cell("Messages", str(messages)))
        for delay, messages in waiting.items()
    ]
    shown = table(("Delay", "Messages of all connectors"), rows)
    return tags.div(shown, tags.p(tags.a("Look at them", href="/delayed")))
