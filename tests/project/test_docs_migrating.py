"""docs/migrating.md has every option, flag and variable of Junebug."""

from __future__ import annotations

import re
from pathlib import Path

from junebug_turn.daemon.junebug.command_line import VARIABLES, parser
from junebug_turn.daemon.junebug.translation import KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
WORDS = set(re.findall(r"[\w-]+", PAGE))


def test_options() -> None:
    """Each key of junebug.yml is in the table."""
    assert set() == KEYS - WORDS


def test_flags() -> None:
    """Each flag of jb is in the table, in both forms."""
    # private: argparse shows its flags in a text only.
    flags = set(parser()._option_string_actions) - {"-h", "--help"}
    assert flags - WORDS == set()


def test_variables() -> None:
    """Each variable of docker-junebug is in the table."""
    assert set() == VARIABLES - WORDS
