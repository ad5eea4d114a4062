"""Layout of the operators' page, and the elements that its pages share.

Every text goes through the template's escaping; there is no other way to a page.

Tested by tests/integration/test_operators_page.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.web.template import Tag, tags

_DONE = {
    "paused": "The connector is paused.",
    "paused-for-now": "The connector is paused until the daemon ends: its cache can't keep that now.",
    "resumed": "The connector is resumed.",
    "replayed": "The messages are back in their queues.",
    "some-replayed": "The first messages are back in their queues; there are more.",
    "dropped": "The message is dropped.",
}


def page(title: str, *content: Any, done: str = "") -> Tag:
    """Return a whole page.

    :param done: the word for what the operator's last action did; an unknown one says nothing
    """
    notice = [tags.p(_DONE[done], class_="notice yes", role="status")] if done in _DONE else []
    return tags.html(
        tags.head(
            tags.meta(charset="utf-8"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.title(f"{title} - junebug-turn"),
            tags.link(rel="icon", href="/static/operators.svg"),
            tags.link(rel="stylesheet", href="/static/operators.css"),
            tags.script(src="/static/operators.js", defer="defer"),
        ),
        tags.body(
            tags.header(
                tags.h1("junebug-turn"),
                tags.nav(
                    tags.a("Overview", href="/"),
                    tags.a("Parked messages", href="/parked"),
                    tags.a("Delayed messages", href="/delayed"),
                    tags.a("Find a message", href="/messages"),
                ),
            ),
            Tag("main", children=[*notice, *content]),
        ),
        lang="en",
    )


def fault(phrase: str, message: str) -> Tag:
    """Return the page of a request that failed."""
    return page(phrase, tags.p(message, class_="notice no", role="alert"), tags.p(tags.a("Back", href="/")))


def button(action: str, text: str, token: str, fields: Mapping[str, str], **attributes: str) -> Tag:
    """Return a form of one button; with the token that shows that the form is the page's own."""
    hidden = [tags.input(type="hidden", name=name, value=value) for name, value in fields.items()]
    return tags.form(
        tags.input(type="hidden", name="token", value=token), *hidden, tags.button(text, **attributes),
        method="post", action=action,
    )  # fmt: skip


def table(heads: Iterable[str], rows: Iterable[Any]) -> Tag:
    head = [tags.thead(tags.tr(*(tags.th(each, scope="col") for each in heads)))] if heads else []
    return tags.table(*head, tags.tbody(*rows))


def cell(label: str, *content: Any, short: bool = False) -> Tag:
    return tags.td(*content, class_="short" if short else "", **{"data-label": label})


def badge(text: str, kind: str) -> Tag:
    return tags.span(text, class_=f"badge {kind}")


def total(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def shown_number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def shown_age(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
