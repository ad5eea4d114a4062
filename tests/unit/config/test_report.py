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
        ("s3c://ret", "***"),
        ({"password": "s3c://ret", "list": ["s3c://ret"]}, {"password": "***", "list": ["***"]}),
        (
            {"url": "redis://:s3cret@[::1]/1", "other_url": "http://h/s3cret"},
            {"url": "redis://[::1]/***", "other_url": "http://h/***"},
        ),
        ({"url": "s3cret"}, {"url": "***"}),
        (Credentials(("s3cret",), {"rapidpro": "s3cret"}), {"tokens": ["***"], "users": {"rapidpro": "***"}}),
    ],
)
def test_masked(value: Any, shown: Any) -> None:
    """Of a secret nothing is shown but its form, whatever it looks like."""
    assert masked(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://user:s3cret@host:81/s3cret?s3cret", "http://host:81/***"),
        ("redis://:s3cret@[::1]/1", "redis://[::1]/***"),
        ("http://user:s3cret@host:x/", "***"),
        ("unix://", "***"),
        ("s3cret", "***"),
        ("", ""),
        (None, None),
    ],
)
def test_masked_url(value: Any, shown: Any) -> None:
    """Of a secret that is a URL by its option's type the host is shown."""
    assert masked(value, is_url=True) == shown


def test_masked_by_the_options_type() -> None:
    """A URL is an option's by its type, also where it may be null; another secret that looks like one is hidden."""
    value = "http://u:s3cret@host/s3cret"
    for url in (types.URL, types.BASE_URL, types.optional(types.URL), types.nullable(types.URL)):
        assert Reported(Option("Where.", url, secret=True), value, "file").shown == "http://host/***"
    for text in (types.TEXT, types.FILLED, types.ANY, types.optional(types.TEXT)):
        assert Reported(Option("Which.", text, secret=True), value, "file").shown == "***"


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
