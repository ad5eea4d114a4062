"""The exceptions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from junebug_turn import errors

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type)]


@pytest.mark.parametrize("cls", CLASSES)
def test_base(cls: type) -> None:
    """Every exception of this project can be caught as JunebugTurnError."""
    assert issubclass(cls, errors.JunebugTurnError)


def test_message_of_config_error() -> None:
    """A configuration's faults are a line each, and all of them the message."""
    error = errors.ConfigError("one", "two")
    assert (error.lines, str(error)) == (("one", "two"), "one\ntwo")


def test_retry_after() -> None:
    """A passing fault says after how many seconds to try again: 5, unless its source knows better."""
    assert errors.CacheError("m").retry_after == 5
    assert errors.RateLimited("m", retry_after=7.5).retry_after == 7.5


def test_no_http() -> None:
    """The exceptions import nothing: the HTTP answers to them stand in http/errors.py."""
    tree = ast.parse(Path(errors.__file__).read_text("utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert modules == ["__future__"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
