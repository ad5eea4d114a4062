"""The option classes against the documents that describe them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from attrs import NOTHING

from junebug_turn.config import load
from junebug_turn.options import Entry, all_entries
from tests.configurations import only

ROOT = Path(__file__).parent.parent
OWNERS = [("daemon",), ("junebug", "turn"), ("junebug",), ("turn",)]


def _as_yaml(default: Any) -> Any:
    return None if default is NOTHING else default


def _default(entry: Entry) -> str:
    if entry.default is NOTHING:
        return "required"
    if entry.default is None:
        return "none"
    if isinstance(entry.default, bool):
        return f"`{str(entry.default).lower()}`"
    return "empty" if entry.default == "" else f"`{entry.default}`"


def _row(entry: Entry) -> str:
    kind, meaning = entry.option.kind.name, entry.option.help
    return f"| `{entry.key}` | {kind} | {_default(entry)} | `{entry.name.upper()}` | {meaning} |"


class TestDocuments:
    def test_example_file(self) -> None:
        """The example file loads, has every key of the daemon and the Junebug API, and tells the real defaults."""
        path = ROOT / "etc" / "junebug-turn.yaml"
        options = only(load({"config": str(path)}, {}))
        assert (options.connector_name, options.base_url_path) == ("demo", "/channels/demo")
        text = path.read_text()
        live = yaml.safe_load(text)
        for entry in all_entries():
            if not {"daemon", "junebug"} & set(entry.owners) or entry.key == "application":
                continue
            *groups, name = entry.path
            # The broker has a ca_file and so has HTTPS: the indent tells them apart.
            indent = "  " * len(groups) if entry.owners == ("daemon",) else " *"
            shown = re.findall(rf"^{indent}(?:# )?{name}: *(.*)$", text, re.MULTILINE)
            commented = re.findall(rf"^{indent}# {name}: (.*)$", text, re.MULTILINE)
            assert len(shown) == 1, entry.key
            if commented:
                assert yaml.safe_load(commented[0]) == _as_yaml(entry.default), entry.key
            else:
                assert not groups
                at = live if name in live else live["applications"][0]
                assert at[name] != entry.default, f"{entry.key} is at its default: comment it out"

    def test_options_page(self) -> None:
        """docs/options.md has a row for every option with its type, default, variable and meaning, and no other."""
        text = (ROOT / "docs" / "options.md").read_text()
        tables = text[text.index("## Every option") :]
        rows = [line for line in tables.splitlines() if line.startswith("| `")]
        assert rows == [_row(entry) for owners in OWNERS for entry in all_entries() if entry.owners == owners]
