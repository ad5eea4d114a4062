"""The command line of ``junebug-turn``: the flags of its tools, and its help."""

from __future__ import annotations

import pytest

from junebug_turn.cli import main
from junebug_turn.daemon.flags import flags
from junebug_turn.daemon.tap import Options


@pytest.mark.parametrize(
    "words", [["check-config"], ["parked", "list"], ["parked", "purge"], ["trace", "ID"]]
)
def test_one_table(words: list[str]) -> None:
    """The tools take each flag that the daemon takes."""
    for flag in ("config", *(flag.name for flag in flags())):
        arguments = main.parser().parse_args([*words, f"--{flag}=x"])
        assert vars(arguments)[f"given_{flag.replace('-', '_')}"] == "x"
        options = Options()
        options.parseOptions([f"--{flag}=x"])
        assert options[flag] == "x"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """check-config --help explains all options, grouped by their owner; the help of a verb has those of the broker."""
    for words in (["check-config"], ["parked", "list"]):
        with pytest.raises(SystemExit):
            main.parser().parse_args([*words, "--help"])
    whole, _, brief = capsys.readouterr().out.partition("usage: junebug-turn parked list [options]")
    assert whole.startswith("usage: junebug-turn check-config [options]\n")
    assert "options of application turn:" in whole
    assert "--turn-api-url" in whole
    assert "--turn-api-url" not in brief
    assert "--amqp-hostname" in brief
    assert "Example: junebug-turn parked list" in brief


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the version and exits."""
    with pytest.raises(SystemExit) as caught:
        main.parser().parse_args(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("junebug-turn ")
