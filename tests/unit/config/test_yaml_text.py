"""Strict YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from junebug_turn.daemon.settings import load
from tests.support.configurations import FLAGS, faults, only, written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


class TestYaml:
    @pytest.mark.parametrize("text", ["0721", "12:30:00", "2001-01-01", "0x1F", "1_000", "+27 82"])
    def test_nothing_is_guessed(self, file: Path, text: str) -> None:
        """What YAML 1.1 takes for an octal, base 60 or other number, or for a date, stays as it is written."""
        flags = written(file, f"default_from_addr: {text}")
        assert only(load(FLAGS | flags, {})).default_from_addr == text

    def test_merge_keys(self, file: Path) -> None:
        """Anchors and merge keys work, and a key that is merged can be given again."""
        text = "applications:\n- &one {application: junebug, connector_name: a, base_url_path: a}\n"
        text += "- {<<: *one, connector_name: b, base_url_path: b}\n"
        flags = FLAGS | written(file, text)
        assert [(o.connector_name, o.path) for o in load(flags, {}).applications] == [
            ("a", "/a"),
            ("b", "/b"),
        ]

    def test_syntax(self, file: Path) -> None:
        """A syntax error shows signs, which tell what to mend, and no names, which may be secrets."""
        (line,) = faults(written(file, "a: {b: *s3cret}"))[:1]
        assert "found undefined alias ..." in line

    @pytest.mark.parametrize(("text", "value"), [("1e1", 10.0), ("5", 5.0), ("2.5", 2.5), (".5", 0.5)])
    def test_numbers(self, text: str, value: float) -> None:
        """Seconds can be whole numbers, fractions, or have an exponent."""
        assert only(load(FLAGS, {"EVENT_URL_TIMEOUT": text})).event_url_timeout == value
