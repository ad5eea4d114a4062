"""Scalars of old files: texts as they are written, numbers and booleans with or without quotes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from junebug_turn.config import yaml_text
from junebug_turn.config.scalars import resolved
from junebug_turn.daemon.settings import load
from tests.support.configurations import FLAGS, only, written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "0821",
        "0721",
        "8110",
        "+27820000001",
        "-1",
        "8110.0",
        "1e3",
        "0x1F",
        "yes",
        "NO",
        "true",
        ".5",
        ".inf",
    ],
)
def test_texts(file: Path, text: str) -> None:
    """A text option takes a YAML scalar as it is written."""
    options = only(load(FLAGS | written(file, f"default_from_addr: {text}"), {}))
    assert options.default_from_addr == text
    assert type(options.default_from_addr) is str
    settings = load(
        FLAGS | written(file, f"amqp: {{username: {text}, password: {text}, vhost: {text}}}\n"), {}
    )
    amqp = settings.daemon.amqp
    assert (amqp.username, amqp.password, amqp.vhost) == (text, text, text)


def test_texts_in_lists_and_mappings(file: Path) -> None:
    """So do the texts of a list, and names and passwords."""
    options = only(load(FLAGS | written(file, "api_auth: {tokens: [12, no], users: {7: 8110}}"), {}))
    assert (options.api_auth.tokens, options.api_auth.users) == (("12", "no"), {"7": "8110"})


@pytest.mark.parametrize("text", ["20", "20.0", "2e1", '"20"', "'20'", '"20.0"'])
def test_numbers(file: Path, text: str) -> None:
    """A number may be quoted, and 20.0 is 20."""
    settings = load(FLAGS | written(file, f"worker_concurrency: {text}\nevent_url_timeout: {text}"), {})
    concurrency = settings.daemon.worker_concurrency
    assert (concurrency, type(concurrency)) == (20, int)
    assert only(settings).event_url_timeout == 20


@pytest.mark.parametrize("text", ["true", "Yes", "on", '"true"', "'YES'"])
def test_booleans(file: Path, text: str) -> None:
    """A boolean may be quoted."""
    assert (
        only(load(FLAGS | written(file, f"allow_expired_replies: {text}"), {})).allow_expired_replies is True
    )


def test_options_of_another_class() -> None:
    """A class that is not ours, and has no option types, gets numbers and booleans as YAML has them."""
    value: Any = yaml_text.parse("{a: 5, b: [1.5, yes], c: 0821, d: '5', e: null}")
    assert resolved(value) == {"a": 5, "b": [1.5, True], "c": "0821", "d": "5", "e": None}
