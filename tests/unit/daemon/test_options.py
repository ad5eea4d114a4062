"""The option classes against the documents that describe them."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import NOTHING

from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.kannel.options import KannelOptions
from junebug_turn.applications.rapidpro.options import RapidProOptions
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.config.option import Entry
from junebug_turn.daemon.settings import load, schema
from tools.reference.page import default_shown

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "etc" / "junebug-turn.yaml"
PRODUCTION = ROOT / "etc" / "junebug-turn.production.yaml"
NAMES = ("junebug", "turn", "rapidpro", "kannel")
OWNERS = [("daemon",), NAMES, *((name,) for name in NAMES)]


def _as_yaml(default: Any) -> Any:
    if isinstance(default, tuple):
        return list(default)
    return None if default is NOTHING else default


def _row(entry: Entry) -> str:
    kind, meaning = entry.option.type.name, entry.option.help
    return f"| `{entry.key}` | {kind} | {default_shown(entry)} | `{entry.name.upper()}` | {meaning} |"


class TestDocuments:
    def test_example_file(self) -> None:
        """The example file loads: all applications on one address, each with a path and a connector of its own."""
        secrets = {"AUTH_TOKEN": "t0ken", "TURN_HMAC_SECRET": "hm4c"}
        junebug, turn, rapidpro, kannel = load({"config": str(EXAMPLE)}, secrets).applications
        assert isinstance(junebug, JunebugOptions)
        assert isinstance(turn, TurnOptions)
        assert isinstance(rapidpro, RapidProOptions)
        assert isinstance(kannel, KannelOptions)
        assert (junebug.connector_name, junebug.base_url_path) == ("demo", "/channels/demo")
        assert (turn.connector_name, turn.vumi_api_path) == ("demo-turn", "/turn")
        assert (rapidpro.connector_name, rapidpro.base_url_path) == ("demo-rapidpro", "/rapidpro")
        assert (kannel.connector_name, kannel.base_url_path) == ("demo-kannel", "/kannel")
        assert junebug.http_bind == turn.http_bind == rapidpro.http_bind == kannel.http_bind
        assert turn.status_format == "nested"

    def test_production_file(self) -> None:
        """The file for a service can be used, has nothing of the demo and no secret, listens on this machine, and keeps
        what replies need over a restart."""
        settings = load({"config": str(PRODUCTION)}, {"AMQP_PASSWORD": "x"})
        (junebug,) = settings.applications
        assert settings.warnings == ()
        assert junebug.http_bind.is_local
        assert settings.daemon.admin_bind is not None
        assert settings.daemon.admin_bind.is_local
        assert junebug.store_config["path"].startswith("/var/lib/junebug-turn/")
        text = PRODUCTION.read_text()
        assert not re.search("demo|password:|token:|secret:", text)

    @pytest.mark.parametrize(("place", "owner"), list(enumerate(NAMES)))
    def test_example_file_has_every_key(self, place: int, owner: str) -> None:
        """The example file has every key of the daemon and of each application, and tells the real defaults."""
        top, *sections = re.split(r"^  - application: .*$", EXAMPLE.read_text(), flags=re.MULTILINE)
        blocks = {
            group: "".join(re.findall(rf"^{group}:\n(?:  .*\n)*", top, re.MULTILINE))
            for group in schema().groups
        }
        # Keys of a group may be those of the top level as well.
        alone = reduce(lambda text, block: text.replace(block, ""), filter(None, blocks.values()), top)
        common = yaml.safe_load(EXAMPLE.read_text())
        live = {**common, **common["applications"][place]}
        for entry in schema().entries:
            if not {"daemon", owner} & set(entry.owners) or entry.key == "application":
                continue
            *groups, name = entry.path
            text = blocks[groups[0]] if groups else alone + sections[place]
            # The daemon has a ca_file and so may an application: the indent tells them apart.
            indent = "  " * len(groups) if entry.owners == ("daemon",) else " *"
            shown = re.findall(rf"^{indent}(?:# )?{name}: *(.*)$", text, re.MULTILINE)
            commented = re.findall(rf"^{indent}# {name}: (.*)$", text, re.MULTILINE)
            assert len(shown) == 1, entry.key
            if commented:
                assert yaml.safe_load(commented[0]) == _as_yaml(entry.default), entry.key
            else:
                assert not groups
                assert live[name] != entry.default, f"{entry.key} is at its default: comment it out"

    def test_options_page(self) -> None:
        """docs/options.md has a row for every option with its type, default, variable and meaning, and no other."""
        text = (ROOT / "docs" / "options.md").read_text()
        tables = text[text.index("## Every option") :]
        rows = [line for line in tables.splitlines() if line.startswith("| `")]
        assert rows == [
            _row(entry) for owners in OWNERS for entry in schema().entries if entry.owners == owners
        ]
