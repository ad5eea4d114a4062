"""The command line of ``junebug-turn parked``, without a broker; ``tests/integration/test_parked.py`` has one."""

from __future__ import annotations

import io
from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.cli import main
from junebug_turn.cli.parked import EVERYTHING, Command
from junebug_turn.cli.terminal import Terminal
from junebug_turn.daemon.settings import load
from junebug_turn.errors import ConfigError
from tests.support.configurations import JUNEBUG


def command(*words: str, configuration: dict[str, Any] | None = None) -> Command:
    arguments = main.parser().parse_args(["parked", *words])
    settings = load(configuration or JUNEBUG, {})
    return Command(Clock(), settings, arguments, Terminal(io.StringIO(), io.StringIO()))


@pytest.mark.parametrize(
    "words",
    [["parked"], ["parked", "show"], ["parked", "list", "--limit=-1"], ["parked", "list", "--kind=x"]],
)
def test_wrong_lines(words: list[str]) -> None:
    """A command line that is wrong ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        main.parser().parse_args(words)
    assert caught.value.code == 2


@pytest.mark.parametrize(("word", "limit"), [("7", 7), ("0", EVERYTHING)])
def test_limit(word: str, limit: int) -> None:
    """--limit is a number, and 0 is no limit; list has one by default, what changes queues has none."""
    parse = main.parser().parse_args
    assert parse(["parked", "list", "--limit", word]).limit == limit
    assert parse(["parked", "list"]).limit == 100
    assert parse(["parked", "replay"]).limit == parse(["parked", "purge"]).limit == EVERYTHING


def test_flags_of_the_daemon() -> None:
    """Every verb takes the daemon's flags, beside arguments of its own with similar names."""
    arguments = main.parser().parse_args(
        ["parked", "list", "-c", "file", "--connector=a", "--connector-name=b", "--amqp-port=1"]
    )
    assert arguments.connector == ["a"]
    given = {name: text for name, text in vars(arguments).items() if name.startswith("given_") and text}
    assert given == {"given_config": "file", "given_connector_name": "b", "given_amqp_port": "1"}


def test_channels_of_a_store() -> None:
    """With a store of channels any connector can be named, and where nothing else is configured, one has to be."""
    stored = {"http_bind": "127.0.0.1:1", "channels_store": "sqlite", "channels_path": "c.db"}
    command("list", "--connector=some-id", configuration=stored)
    command("list", configuration={**JUNEBUG, **stored})
    with pytest.raises(ConfigError, match="--connector"):
        command("list", configuration=stored)


def test_unknown_connectors() -> None:
    """Each connector that the configuration doesn't have is a line."""
    with pytest.raises(ConfigError) as caught:
        command("list", "--connector=one", "--connector=sms", "--connector=two")
    assert caught.value.lines == (
        "no connector is named one; there is sms",
        "no connector is named two; there is sms",
    )
