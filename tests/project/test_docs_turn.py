"""The page for the operators of a Turn channel, held against the code."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from junebug_turn import errors
from junebug_turn.applications.turn.menus import Menu
from junebug_turn.applications.turn.messages import (
    OutboundRequest,
    errors_to_json,
    flat_status,
    inbound_to_json,
    nested_status,
)
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.daemon.settings import load, schema
from junebug_turn.http.errors import answer_for
from junebug_turn.messages.vumi import Event, Message
from tests.support.configurations import only, written
from tools.reference.page import default_shown

PAGE = (Path(__file__).parents[2] / "docs" / "turn.md").read_text("utf-8")
PHONE = "+27820000002"


def _section(title: str) -> str:
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def _blocks(title: str, language: str) -> list[str]:
    """The code blocks of a language in the section; of a list's, without its indentation."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```$"
    found = re.findall(pattern, _section(title), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indentation}", "", text, flags=re.MULTILINE) for indentation, text in found]


def _json(title: str) -> list[Any]:
    return [json.loads(block) for block in _blocks(title, "json")]


def _rows(title: str) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in _section(title).splitlines()]
    return [row for row in cells if len(row) > 1][2:]


def _request(webhook: Any) -> OutboundRequest:
    return OutboundRequest.from_json(webhook, render_interactive=True)


def _inbound(message: dict[str, Any], content: str) -> Message:
    return Message(
        to_addr="*120*8864#",
        from_addr=PHONE,
        transport_name="t",
        transport_type="ussd",
        content=content,
        message_id=message["id"],
        timestamp=datetime.fromtimestamp(int(message["timestamp"]), UTC).replace(tzinfo=None),
    )


def test_the_configuration(tmp_path: Path) -> None:
    """The configuration that the page gives loads as a Turn application, with statuses as Turn takes them."""
    (block,) = _blocks('From "create a channel" to a message on the phone', "yaml")
    options = only(load(written(tmp_path / "c.yaml", block), {}))
    assert isinstance(options, TurnOptions)
    assert options.status_format == "nested"


def test_the_options() -> None:
    """The page has each option of the Turn application's own, and those it tells of with their real defaults."""
    rows = {name.strip("`"): default for name, default, _ in _rows("Options")}
    entries = {entry.key: entry for entry in schema().entries if "turn" in entry.owners}
    assert rows == {name: default_shown(entries[name]) for name in rows}
    own = {name for name, entry in entries.items() if entry.owners == ("turn",)}
    assert own - rows.keys() == set()


def test_a_message_from_turn() -> None:
    """The example of a webhook is accepted; the example of an answer has an id of ours."""
    webhook, answer = _json("A message from Turn")
    assert _request(webhook) == OutboundRequest(to=PHONE, from_addr="8110", content="Hello from Turn!")
    ((message,),) = answer.values()
    assert re.fullmatch("[0-9a-f]{32}", message["id"])


def test_the_fields_of_a_webhook() -> None:
    """The table of fields has those that are read."""
    assert {row[0].strip("`") for row in _rows("A message from Turn")} == {
        *("to", "turn", "from", "reply_to", "waiting_for_user_input", "content")
    }


@pytest.mark.parametrize("number", [0, 1])
def test_menus(number: int) -> None:
    """The examples of menus are shown as the page shows them."""
    webhooks = [block for block in _json("Menus") if "turn" in block]
    shown = _blocks("Menus", "text")
    assert len(webhooks) == len(shown) == 2
    assert _request(webhooks[number]).content == shown[number].rstrip("\n")


@pytest.mark.parametrize("typed", ["2", " 2 ", "2."])
def test_the_choice(typed: str) -> None:
    """The answer of the phone makes the choice that the page shows."""
    webhook, expected, _ = _json("Menus")
    choice = Menu(_request(webhook).choices).chosen(typed)
    assert inbound_to_json(_inbound(expected["message"], typed), choice) == expected


def test_a_message_to_turn() -> None:
    """The example of an inbound message is what is POSTed."""
    (expected,) = _json("A message to Turn")
    assert inbound_to_json(_inbound(expected["message"], "Hi there")) == expected


def test_statuses() -> None:
    """The examples of statuses are what is POSTed, in both forms; they show the same moment."""
    nested, flat = _json("Statuses")
    event = Event(
        user_message_id=flat["user_message_id"],
        event_type="delivery_report",
        delivery_status="delivered",
        timestamp=datetime.fromisoformat(flat["timestamp"]),
    )
    assert (nested_status(event, PHONE), flat_status(event)) == (nested, flat)


def test_the_table_of_statuses() -> None:
    """Each event has the status that the table gives it."""
    rows = _rows("Statuses")
    assert len(rows) == 5
    for words, nested, flat in rows:
        kind, _, report = words.partition(", ")
        event = Event(user_message_id="1", event_type=kind.replace(" ", "_"), delivery_status=report or None)
        assert nested_status(event, PHONE)["status"]["status"] == nested.strip("`"), words
        assert flat_status(event)["status"] == flat.strip("`"), words


def test_the_example_of_an_error() -> None:
    """The example of an error is the answer to a webhook without to."""
    with pytest.raises(errors.InvalidBody) as caught:
        _request({"turn": {}})
    assert [errors_to_json(answer_for(caught.value))] == _json("Errors")


def headings(page: str) -> set[str]:
    """The headings of a page, as links name them."""
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^##* (.*)$", page, re.MULTILINE)
    }


def test_the_links() -> None:
    """Each link within the page leads to a heading, each link to a file to one that is there, and to its heading."""
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        name, _, heading = target.partition("#")
        if target.startswith("https://"):
            continue
        path = Path(__file__).parents[2] / "docs" / (name or "turn.md")
        assert path.exists(), target
        if heading:
            assert heading in headings(path.read_text("utf-8")), target
