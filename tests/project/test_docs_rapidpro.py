"""The pages for operators of RapidPro's channels and of Kannel's clients, held against the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest

from junebug_turn.applications.kannel.escapes import dlr_status, event_escapes, message_escapes
from junebug_turn.applications.kannel.messages import ACCEPTED, FAILED, UNAUTHORIZED, inbound_to_form
from junebug_turn.applications.kannel.options import KannelOptions
from junebug_turn.applications.rapidpro.conversations import with_choices
from junebug_turn.applications.rapidpro.messages import OutboundRequest, accepted
from junebug_turn.applications.rapidpro.messages import inbound_to_form as rapidpro_form
from junebug_turn.applications.rapidpro.options import RapidProOptions
from junebug_turn.applications.rapidpro.parameters import Parameters
from junebug_turn.daemon.settings import load, schema
from junebug_turn.http.forms import read_form
from junebug_turn.messages.vumi import Event, Message
from tests.support.configurations import only, written
from tools.demo.rapidpro import arguments
from tools.reference.page import default_shown

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text("utf-8") for name in ("rapidpro", "kannel")}
MESSAGE = Message(
    to_addr="8864", from_addr="+27820000003", transport_name="t", transport_type="sms", content="Not well"
)


def _section(page: str, title: str) -> str:
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def _tables(page: str, title: str) -> list[list[list[str]]]:
    """The tables of a section, each without its head."""
    tables: list[list[list[str]]] = [[]]
    for line in _section(page, title).splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif tables[-1]:
            tables.append([])
    return [table[2:] for table in tables if table]


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def _words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


@pytest.mark.parametrize(("page", "kind"), [("rapidpro", RapidProOptions), ("kannel", KannelOptions)])
def test_options(page: str, kind: Any, tmp_path: Path) -> None:
    """The table has the options of its own, with their defaults; the configuration in the steps can be used."""
    entries = {entry.key: entry for entry in schema().entries if entry.owners == (page,)}
    (rows,) = _tables(page, "Options")
    assert {row[0].strip("`"): row[1] for row in rows} == {
        key: default_shown(entry) for key, entry in entries.items()
    }
    configuration = _blocks(PAGES[page], "yaml")[0]
    read = only(
        load(written(tmp_path / "c.yaml", re.sub(r"^   ", "", configuration, flags=re.MULTILINE)), {})
    )
    assert isinstance(read, kind)


def test_rapidpro_examples() -> None:
    """The answer, the menu and the message to RapidPro are what the code makes of them."""
    (answer,) = _blocks(_section("rapidpro", "A message from RapidPro"), "json")
    message = attrs.evolve(MESSAGE, message_id=json.loads(answer)["message_id"])
    assert accepted(message) == json.loads(answer)
    sent, shown = _blocks(_section("rapidpro", "Menus"), "text")
    line, body = sent.splitlines()
    parameters = Parameters(read_form(line.partition("?")[2].encode()), read_form(body.encode()))
    request = OutboundRequest.from_parameters(parameters)
    assert (request.content, request.id, request.status) == (shown.strip(), "3712", "W")
    assert with_choices("How are you?", ("Well", "Not well")) == shown.strip()
    (form,) = _blocks(_section("rapidpro", "A message to RapidPro"), "text")
    made = parse_qsl(rapidpro_form(MESSAGE, MESSAGE.content, None).decode())
    assert [name for name, _ in made] == [name for name, _ in parse_qsl(form)]
    assert made[:2] == parse_qsl(form)[:2]


def test_kannel_tables() -> None:
    """Statuses, escapes, fields and lines are those of the code."""
    statuses, escapes = _tables("kannel", "Delivery reports")
    events = {
        "delivery report, delivered": {"event_type": "delivery_report", "delivery_status": "delivered"},
        "delivery report, failed": {"event_type": "delivery_report", "delivery_status": "failed"},
        "delivery report, pending": {"event_type": "delivery_report", "delivery_status": "pending"},
        "ack: accepted by the SMSC": {"event_type": "ack"},
        "nack: rejected by the SMSC": {"event_type": "nack"},
    }
    assert {row[0]: row[1].strip("`") for row in statuses} == {
        name: str(dlr_status(Event(user_message_id="m", **fields))) for name, fields in events.items()
    }
    told = {word for row in escapes for word in _words(row[0])}
    event = Event(user_message_id="m", event_type="ack")
    assert told - {"%%"} == {f"%{letter}" for letter in event_escapes(event, "", "")}
    fields, escapes = _tables("kannel", "Inbound messages")
    assert [row[0].strip("`") for row in fields] == [
        name for name, _ in parse_qsl(inbound_to_form(MESSAGE).decode())
    ]
    told = {word for row in escapes for word in _words(row[0])}
    assert told - {"%%"} == {f"%{letter}" for letter in message_escapes(MESSAGE)}
    errors = "".join(_section("kannel", "Errors"))
    assert all(line in errors for line in (UNAUTHORIZED, FAILED))
    assert ACCEPTED in _section("kannel", "sendsms")


@pytest.mark.parametrize("page", list(PAGES))
def test_commands(page: str) -> None:
    """The commands can be typed as they stand."""
    lines = _blocks(_section(page, "Trying it without RapidPro"), "sh")[0].splitlines()
    assert len(lines) >= 2
    for line in lines:
        program, *words = shlex.split(line)
        assert program == ".venv/bin/python"
        assert words[:2] == ["-m", "tools.demo.rapidpro"]
        assert arguments(words[2:]).kannel == (page == "kannel")


@pytest.mark.parametrize("page", list(PAGES))
def test_links(page: str) -> None:
    """Links lead to pages and headings that there are."""
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        text = (DOCS / file).read_text("utf-8") if file else PAGES[page]
        anchors = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert not heading or heading in anchors, target
