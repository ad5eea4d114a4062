"""How values are shown: in a report, and in the line of a fault."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import NOTHING

from junebug_turn.config import types
from junebug_turn.config.option import Option
from junebug_turn.config.report import Reported, masked, show, show_name
from junebug_turn.http.authentication import Credentials
from junebug_turn.http.listening import BIND, ListenAddress


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("s3cret", "***"),
        (5, "***"),
        ("", ""),
        (None, None),
        (True, True),
        (["s3cret", None], ["***", None]),
        ({"class_path": "a.B", "key": "s3cret"}, {"class_path": "a.B", "key": "***"}),
        ("http://user:s3cret@host:81/s3cret?s3cret", "http://host:81/***"),
        ("redis://:s3cret@[::1]/1", "redis://[::1]/***"),
        ("http://user:s3cret@host:x/", "***"),
        ("unix://", "***"),
        (Credentials(("s3cret",), {"rapidpro": "s3cret"}), {"tokens": ["***"], "users": {"rapidpro": "***"}}),
    ],
)
def test_masked(value: Any, shown: Any) -> None:
    """Of a secret nothing is shown but its form, and of a URL the host."""
    assert masked(value) == shown


def test_reported() -> None:
    """A value is shown as its type says, a secret masked, and one that can't be used not at all."""
    address = Option("Where.", BIND)
    assert Reported(address, ListenAddress.of("127.0.0.1:80"), "file").shown == "127.0.0.1:80"
    assert Reported(address, NOTHING, "file").shown is None
    assert Reported(Option("Which.", types.TEXT, secret=True), "s3cret", "file").shown == "***"
    assert "s3cret" not in repr(Reported(Option("Which.", types.TEXT, secret=True), "s3cret", "file"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (False, "false"),
        ([1], "a list"),
        ({}, "a mapping"),
        ("amqp://u:s3cret@h", "a URL"),
        ("8110", "'8110'"),
        pytest.param(10**5000, "a huge number", id="huge"),
        ("x" * 100, "'" + "x" * 76 + "..."),
    ],
)
def test_show(value: Any, shown: str) -> None:
    """A value in a fault is short, and never a URL, which may hold a password."""
    assert show(value) == shown


@pytest.mark.parametrize(("name", "shown"), [("amqp", "amqp"), ("a\nb", r"'a\nb'"), ("", "''"), (3, "3")])
def test_show_name(name: object, shown: str) -> None:
    """A key is quoted only where it could be mistaken."""
    assert show_name(name) == shown
