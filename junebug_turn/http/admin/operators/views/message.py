"""The page of one message: all that is known of it.

Tested by tests/integration/test_operators_page.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from twisted.web.template import Tag, tags

from junebug_turn.http.admin.operators.backend import Json
from junebug_turn.http.admin.operators.views.layout import cell, page, table

_FACTS = ("from", "to", "timestamp", "came", "published", "content")


def message(found: Json | None, *, full: bool) -> Tag:
    """Return the page with the form for an id, and with the message where one is asked for."""
    id = "" if found is None else found["id"]
    field = tags.input(name="id", value=id, placeholder="message id", **{"aria-label": "message id"})
    form = tags.form(field, tags.button("Find"), method="get", action="/messages", class_="filter")
    content: list[Tag] = []
    if found is not None:
        content = [each for part in found["connectors"] for each in _connector(part)]
        if found["unread"]:
            content.append(tags.p(f"Not asked: the caches of {', '.join(found['unread'])}.", class_="quiet"))
        if found["broker"] is not None:
            content.append(
                tags.p(f"Parked messages are not known: {found['broker']}", class_="notice partly")
            )
        if not full:
            link = f"/messages?{urlencode({'id': id, 'full': 'true'})}"
            content.append(tags.p(tags.a("Show its text and addresses", href=link)))
    return page("Find a message", tags.h2("Find a message"), form, *content)


def _connector(part: Json) -> Iterable[Tag]:
    yield tags.h2(f"{(part['kind'] or 'message').capitalize()} on {part['connector']}")
    if part["fault"]:
        yield tags.p(part["fault"], class_="notice no")
    facts = [(name, part[name]) for name in _FACTS if part.get(name) is not None]
    if facts:
        yield table((), [_row(name, _word(value)) for name, value in facts])
    if part["steps"]:
        yield table(("Time", "What happened"), [_row(str(step["at"]), _step(step)) for step in part["steps"]])
    events = [event for event in part["events"] if "at" not in event]
    if events:
        yield table(("Time", "Event"), [_row(event["timestamp"], event["event"]) for event in events])
    for parked in part["parked"]:
        place = urlencode({"connector": part["connector"], "kind": parked["kind"]})
        link = tags.a(f"Parked in {parked['queue']}", href=f"/parked/{quote(parked['id'], safe='')}?{place}")
        yield tags.p(link, f": {parked['reason']}, {parked['attempts']} attempts", class_="notice partly")
        if "body" in parked:
            yield tags.pre(parked["body"])
    if part["destinations"]:
        yield table(("Destination", "Circuit"), [_destination(each) for each in part["destinations"]])


def _row(name: str, value: str) -> Tag:
    return tags.tr(tags.th(name, scope="row"), tags.td(value))


def _destination(each: Json) -> Tag:
    fault = f": {each['fault']}, since {each['since']}" if "fault" in each else ""
    return tags.tr(
        tags.th(each["origin"], scope="row"), cell("Circuit", f"{each['circuit'] or 'not known'}{fault}")
    )


def _step(step: Json) -> str:
    details = [f"{name} {value}" for name, value in step.items() if name not in ("at", "step") and value]
    return f"{step['step'].replace('_', ' ')}{': ' if details else ''}{', '.join(details)}"


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
