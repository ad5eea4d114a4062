"""The pages of parked and delayed messages.

Tested by tests/integration/test_operators_page.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

import attrs
from twisted.web.template import Tag, tags

from junebug_turn.http.admin.operators.backend import Choice, Json
from junebug_turn.http.admin.operators.views.layout import button, cell, page, shown_age, table


def held(
    found: Json,
    connectors: Iterable[str],
    choice: Choice,
    offset: int,
    limit: int,
    token: str,
    *,
    done: str = "",
) -> Tag:
    """Return the list of parked or delayed messages, with its filter."""
    state, chosen = choice.state, _chosen(choice)
    title = f"{state.capitalize()} messages"
    rows = [_row(each, choice) for each in found[state]]
    heads = ("Message", "Connector", "From", "To", "Reason", "Attempts", _since(choice))
    listed: Any = table(heads, rows) if rows else tags.p(f"No {state} messages are selected.", class_="empty")
    actions = []
    if rows:
        actions.append(button(f"/{state}/replay", "Replay all that are selected", token, chosen))
    if offset:
        actions.append(tags.a("To the beginning", href=f"/{state}?{urlencode(chosen)}"))
    if found["more"] and rows:
        further = urlencode({**chosen, "offset": str(offset + limit)})
        actions.append(tags.a("Further ones", href=f"/{state}?{further}"))
    return page(
        title, tags.h2(title), *_part(found, choice), _filter(connectors, choice), listed,
        tags.div(*actions, class_="actions"), done=done,
    )  # fmt: skip


def _part(found: Json, choice: Choice) -> list[Tag]:
    """Say that not all delayed messages were looked at."""
    if not (choice.delayed and found["more"]):
        return []
    return [
        tags.p("There are more: only the first messages of each delay queue are looked at.", class_="empty")
    ]


def _since(choice: Choice) -> str:
    return "Next try" if choice.delayed else "Parked for"


def _filter(connectors: Iterable[str], choice: Choice) -> Tag:
    def select(name: str, values: Iterable[str], chosen: str | None, all: str) -> Tag:
        options = [tags.option(all, value="")]
        for value in values:
            option = tags.option(value, value=value)
            options.append(option(selected="selected") if value == chosen else option)
        return tags.select(*options, name=name, **{"aria-label": name})

    return tags.form(
        select("connector", connectors, choice.connector, "All connectors"),
        select("kind", ("inbound", "event"), choice.kind, "Messages and events"),
        *(
            tags.input(
                name=name, value=_chosen(choice).get(name, ""), placeholder=shown, **{"aria-label": shown}
            )
            for name, shown in (
                ("reason", "reason"),
                ("destination", "destination"),
                ("older_than", "older than (2h)"),
                ("newer_than", "newer than (2h)"),
            )
        ),
        tags.button("Show"),
        method="get",
        action=f"/{choice.state}",
        class_="filter",
    )


def _row(each: Json, choice: Choice) -> Tag:
    place = urlencode({"connector": each["connector"], "kind": each["kind"]})
    link = tags.a(each["id"], href=f"/{choice.state}/{quote(each['id'], safe='')}?{place}")
    status = f" {each['last_status']}" if each["last_status"] is not None else ""
    return tags.tr(
        tags.th(link, scope="row"),
        cell("Connector", f"{each['connector']} {each['kind']}"),
        cell("From", each["from"] or "–", short=True),
        cell("To", each["to"] or "–", short=True),
        cell("Reason", f"{each['reason']}{status}"),
        cell("Attempts", str(each["attempts"]), short=True),
        cell(_since(choice), each["next_try"] if choice.delayed else shown_age(each["age"]), short=True),
    )


def held_message(found: Json, choice: Choice, token: str, *, full: bool) -> Tag:
    """Return the page of one message, with the actions on it."""
    title = f"{choice.state.capitalize()} message"
    place = {"connector": found["connector"], "kind": found["kind"]}
    path = f"/{choice.state}/{quote(found['id'], safe='')}"
    rows = [
        tags.tr(tags.th(name.replace("_", " "), scope="row"), tags.td("–" if value is None else str(value)))
        for name, value in found.items()
        if name not in ("body", "headers")
    ]
    whole: list[Tag] = []
    if full:
        headers = "\n".join(f"{name}: {value}" for name, value in found["headers"].items())
        whole = [tags.h2("Headers"), tags.pre(headers), tags.h2("Body"), tags.pre(found["body"])]
    else:
        link = f"{path}?{urlencode({**place, 'full': 'true'})}"
        whole = [tags.p(tags.a("Show its text and addresses", href=link))]
    drop = tags.details(
        tags.summary("Drop..."), button(f"{path}/drop", "Drop it for ever", token, place, class_="danger")
    )
    replay = button(f"{path}/replay", "Try now" if choice.delayed else "Replay", token, place)
    actions = tags.div(replay, drop, class_="actions")
    return page(title, tags.h2(title), table((), rows), actions, *whole)


def _chosen(choice: Choice) -> dict[str, str]:
    given: dict[str, Any] = attrs.asdict(choice)
    del given["delayed"]
    for name in ("older_than", "newer_than"):
        given[name] = None if given[name] is None else f"{given[name]:g}s"
    return {name: value for name, value in given.items() if value is not None}
