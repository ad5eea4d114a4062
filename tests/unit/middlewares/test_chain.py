"""The chain of middlewares: made from the configuration, called in its order."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given

from junebug_turn.daemon.settings import load
from junebug_turn.errors import ConfigError
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.middlewares.chain import make_middlewares
from junebug_turn.middlewares.logging import LoggingMiddleware
from junebug_turn.middlewares.unidecoder import Unidecoder
from tests.support.configurations import FLAGS, faults
from tests.support.middlewares import ALL, MARK, made, message, result
from tests.support.strategies import messages


def test_order() -> None:
    """In each direction they are called in the order of the list, each with what the one before it returned."""
    chain = made(
        {"class_path": MARK, **ALL, "mark": "1"}, {"class_path": MARK, **ALL, "mark": "2", "times": 2}
    )
    assert result(chain.inbound(message())).content == "c122"
    assert result(chain.outbound(message())).content == "c122"
    event = Event(user_message_id="m", event_type="nack", nack_reason="r")
    assert result(chain.event(event)).nack_reason == "r122"


def test_enabled() -> None:
    """One is called for its own connectors and directions only, and for no direction unless that is said."""
    chain = made(
        {"class_path": MARK, "inbound_enabled": True, "mark": "in"},
        {"class_path": MARK, "outbound_enabled": True, "mark": "out"},
        {"class_path": MARK, "mark": "none"},
        {"class_path": MARK, **ALL, "enable_for_connectors": ["ussd"], "mark": "other"},
    )
    assert result(chain.inbound(message())).content == "cin"
    assert result(chain.outbound(message())).content == "cout"
    event = Event(user_message_id="m", event_type="ack")
    assert result(chain.event(event)) is event


def test_forgotten_return() -> None:
    """One that returns nothing raises: the message isn't lost."""
    failure = result(made({"class_path": "tests.support.middlewares.Forgets", **ALL}).inbound(message()))
    assert failure.check(TypeError)
    assert "Forgets returned no Message" in str(failure.value)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            {"class_path": "no.such.module.Class"},
            "middlewares[1].class_path: 'no.such.module.Class' can't be",
        ),
        ({"class_path": "Class"}, "middlewares[1].class_path: 'Class' can't be imported"),
        (
            {"class_path": "tests.support.middlewares.NotOne"},
            "middlewares[1].class_path: 'tests.support.middlewares.NotOne' is not",
        ),
        ({"class_path": "tests.support.middlewares.Nothing"}, "middlewares[1].class_path: "),
        ({"class_path": MARK, "colour": 1}, "middlewares[1].colour: unknown option of MarkConfig"),
        ({"class_path": MARK, "mark": 1}, "middlewares[1].mark: must be text"),
        ({"class_path": MARK, "times": True}, "middlewares[1].times: must be a whole number"),
        (
            {"class_path": MARK, "inbound_enabled": "maybe"},
            "middlewares[1].inbound_enabled: must be true or false",
        ),
        (
            {"class_path": MARK, "enable_for_connectors": "sms"},
            "middlewares[1].enable_for_connectors: must be a list",
        ),
        (
            {"class_path": MARK, "enable_for_connectors": ["sns"]},
            "middlewares[1].enable_for_connectors: no application has the connector 'sns'",
        ),
        (
            {"class_path": "vumi2.middlewares.logging.LoggingMiddleware", "log_level": "loud"},
            "middlewares[1].log_level: must be",
        ),
    ],
)
def test_faults(entry: dict[str, Any], line: str) -> None:
    """What can't be used is told with its place in the list."""
    entries = [
        {"class_path": MARK, "enable_for_connectors": ["sms"]},
        {"enable_for_connectors": ["sms"]} | entry,
    ]
    with pytest.raises(ConfigError) as caught:
        make_middlewares(entries, ["sms"])
    assert caught.value.lines[0].startswith(line)


def test_required_options() -> None:
    """enable_for_connectors is required, as in vumi2."""
    with pytest.raises(ConfigError) as caught:
        make_middlewares([{"class_path": MARK}], ["sms"])
    assert caught.value.lines == ("middlewares[0].enable_for_connectors: required by MarkConfig",)


def test_option() -> None:
    """The option is a list of mappings with a class_path each."""
    settings = load({**FLAGS, "middlewares": "[{class_path: a.B, enable_for_connectors: [sms]}]"}, {})
    assert settings.daemon.middlewares == ({"class_path": "a.B", "enable_for_connectors": ["sms"]},)
    assert load(FLAGS, {}).daemon.middlewares is None
    for wrong in (
        "a.B",
        "{class_path: a.B}",
        "[a.B]",
        "[{}]",
        "[{class_path: [1]}]",
        "[{null: 2, class_path: a}]",
    ):
        (line,) = faults({**FLAGS, "middlewares": wrong})
        assert line.startswith("middlewares: must"), wrong


# The ones that come with us


def test_aliases() -> None:
    """The class paths of vumi2 are those of our own two."""
    names = ("logging.LoggingMiddleware", "unidecoder.Unidecoder")
    found = make_middlewares(
        [{"class_path": f"vumi2.middlewares.{name}", "enable_for_connectors": []} for name in names], []
    )
    assert [type(each) for each in found] == [LoggingMiddleware, Unidecoder]


def test_unidecoder() -> None:
    """The content is written in ASCII, in both directions; null stays null, and the rest stays as it was."""
    chain = made({"class_path": "vumi2.middlewares.unidecoder.Unidecoder", **ALL})
    given_ = message("Ünï “quoted” – 你好")
    for changed in (result(chain.inbound(given_)), result(chain.outbound(given_))):
        assert changed == attrs.evolve(given_, content='Uni "quoted" - Ni Hao ')
    assert result(chain.outbound(message(None))).content is None
    assert result(chain.outbound(message(""))).content == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("😀", "?"),
        ("😀 👍", "? ?"),
        ("👍🏽", "?"),
        ("☺", "?"),
        ("👨\u200d👩\u200d👧", "???"),
        ("\u0301", "?"),
        ("\U0001f3fd", "?"),
        ("Yes 👍", "Yes "),
        ("e\u0301", "e"),
        ("\u00a0", " "),
    ],
)
def test_unidecoder_of_symbols(content: str, expected: str) -> None:
    """A text of nothing but characters without an ASCII form, as emoji, does not become an empty message."""
    chain = made({"class_path": f"{Unidecoder.__module__}.Unidecoder", **ALL})
    for changed in (result(chain.inbound(message(content))), result(chain.outbound(message(content)))):
        assert changed.content == expected


@given(messages)
def test_unidecoder_takes_anything(any_message: Message) -> None:
    """Whatever the content is, it becomes ASCII."""
    content = result(
        made({"class_path": f"{Unidecoder.__module__}.Unidecoder", **ALL}).inbound(any_message)
    ).content
    assert content is None or content.isascii()
    assert bool(content) == bool(any_message.content)
