"""Every example of README and of the pages of docs is tested, and here are the tests that need no server."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from junebug_turn.daemon.settings import explain, load
from tests.support.configurations import JUNEBUG, KANNEL, written
from tests.support.examples import CONFIGURATION, EXAMPLES, MAKE, PARSED, REASONS, examples_of, way_of
from tests.support.pages import PAGES, ROOT, Block, all_blocks, block, blocks, commands
from tools.servers.installed import required

BLOCKS = all_blocks()
SOURCES = "".join(path.read_text("utf-8") for path in sorted((ROOT / "junebug_turn").rglob("*.py")))


def _shell(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", BLOCKS, ids=lambda example: example.name)
def test_every_block_has_its_test(example: Block) -> None:
    """Each block of code is run or checked by a test that there is."""
    test = way_of(example)
    assert test, f"a line for it is missing in tests/support/examples.py: {example.name}"
    path, _, name = test.partition("::")
    assert name in {
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_the_register() -> None:
    """Each line of the register is for a block that there is."""
    for page, starts in EXAMPLES.items():
        for start in starts:
            assert any(each.text.lstrip().startswith(start) for each in blocks(page)), (page, start)


@pytest.mark.parametrize("example", examples_of(MAKE), ids=lambda example: example.name)
def test_the_commands_of_make(example: Block) -> None:
    """Each line is a target of the Makefile, and so is each `make` in a sentence."""
    for line in example.text.splitlines():
        assert shutil.which("make")
        words = shlex.split(line, comments=True)
        assert words[0] == "make"
        _shell(shlex.join(["make", "-n", *words[1:]]), ROOT)


@pytest.mark.parametrize("page", sorted({example.page for example in examples_of(CONFIGURATION)}))
def test_a_configuration(page: str, tmp_path: Path) -> None:
    """A whole configuration can be used as printed; so can the parts, one after the other on top of a small one."""
    (tmp_path / "secret").write_text("a-secret")
    parts = KANNEL if page == "docs/kannel.md" else JUNEBUG
    for example in blocks(page):
        if way_of(example) != CONFIGURATION:
            continue
        text = re.sub(r"/run/secrets/\w+", str(tmp_path / "secret"), example.text)
        values: dict[str, Any] = yaml.safe_load(text)
        if "application" in values or ("applications" in values and "http_bind" in values):
            settings = load(written(tmp_path / "whole.yaml", text), {})
            assert settings.applications
            continue
        if "applications" in values:
            # An extract: what it leaves out is as for the same application elsewhere.
            complete = yaml.safe_load(block(page, "amqp: {hostname: rabbit, username"))
            (entry,) = values["applications"]
            (whole,) = (
                each for each in complete["applications"] if each["application"] == entry["application"]
            )
            whole = {key: value for key, value in whole.items() if f"{key}_file" not in entry}
            values = {"http_bind": complete["http_bind"], **values, "applications": [whole | entry]}
            load(written(tmp_path / "extract.yaml", values), {})
            continue
        parts = parts | values
        load(written(tmp_path / "parts.yaml", parts), {})


def test_the_configuration_of_the_monitoring(tmp_path: Path) -> None:
    """Prometheus takes the extract of its configuration beside our rules; Alertmanager's has a receiver for each route,
    and the severities are those of the rules."""
    shutil.copy(ROOT / "etc" / "prometheus-alerts.yaml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(block("docs/alerts.md", "rule_files:"))
    _shell(f"{required('promtool')} check config prometheus.yml", tmp_path)
    alertmanager = yaml.safe_load(block("docs/alerts.md", "route:"))
    receivers = {each["name"] for each in alertmanager["receivers"]}
    routes = [alertmanager["route"], *alertmanager["route"]["routes"]]
    assert {route["receiver"] for route in routes} == receivers
    named = {matcher for route in routes[1:] for matcher in route["matchers"]}
    rules = yaml.safe_load((tmp_path / "prometheus-alerts.yaml").read_text())
    severities = {rule["labels"]["severity"] for group in rules["groups"] for rule in group["rules"]}
    assert named < {f'severity="{severity}"' for severity in severities}


def test_the_address_of_the_alerts(tmp_path: Path) -> None:
    """The command puts the address of the reader's copy into every alert."""
    shutil.copy(ROOT / "etc" / "prometheus-alerts.yaml", tmp_path)
    script = block("docs/alerts.md", "sed ")
    _shell(script, tmp_path)
    _, old, new, _ = script.split("|")
    text = (tmp_path / "prometheus-alerts.yaml").read_text()
    assert old not in text
    assert text.count(f"runbook_url: {new}/docs/alerts.md#") == text.count("alert: ")


def test_the_changelog_of_a_release(tmp_path: Path) -> None:
    """The command of a release moves every fragment into the changelog."""
    shutil.copytree(ROOT / "changelog.d", tmp_path / "changelog.d")
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    script = block("docs/development.md", ".venv/bin/towncrier").replace("X.Y.Z", "9.8.7")
    _shell(script.replace(".venv/bin/", f"{Path(sys.executable).parent}/"), tmp_path)
    assert [path.name for path in (tmp_path / "changelog.d").iterdir()] == ["README.md"]
    assert re.search(r"^## .*9\.8\.7", (tmp_path / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", ["docs/rapidpro.md", "docs/kannel.md"])
def test_a_form(page: str) -> None:
    """What the page says to type into RapidPro's form fits the configuration above it."""
    (form,) = (each.text for each in blocks(page) if "┌" in each.text)
    (values,) = (yaml.safe_load(each.text) for each in blocks(page) if each.text.startswith("application:"))
    fields = dict(re.findall(r"│ ([A-Z][\w /]*?) +│ (.*?)(?:  .*)?│$", form, re.MULTILINE))
    path = fields["Send URL"].partition("sms.example.org")[2]
    if page == "docs/rapidpro.md":
        assert path.startswith(f"{values['base_url_path']}/send?id={{{{id}}}}&session_status=")
        assert fields["Authorization"].strip() == f"Token {values['api_auth']['tokens'][0]}"
        assert fields["Response check"].strip() == "accepted"
    else:
        assert path.strip() == f"{values['base_url_path']}/cgi-bin/sendsms"
        assert values["api_auth"]["users"] == {fields["Username"].strip(): fields["Password"].strip()}


@pytest.mark.parametrize("example", examples_of(PARSED), ids=lambda example: example.name)
def test_a_block_that_is_parsed(example: Block) -> None:
    """A block that can't run here, with the reason why, is one that a shell can read; the files that it names are
    there."""
    assert any(example.text.startswith(start) for start in REASONS), "no reason"
    script = re.sub(r"<[\w-]+>", "NAME", example.text)
    subprocess.run(["sh", "-n", "-c", script], check=True, timeout=60)
    for name in re.findall(r"(?<![/\w])(?:etc|tests)/\S+\.\w+", example.text):
        assert (ROOT / name).exists(), name


def test_the_faults(tmp_path: Path) -> None:
    """The lines that the page shows are those of a configuration with these faults."""
    file = tmp_path / "junebug-turn.yaml"
    entry = {**JUNEBUG, "connector_name": "demo", "max_retires": 3}
    bind = {"http_bind": entry.pop("http_bind")}
    found = explain(written(file, {**bind, "applications": [entry]}), {"AMQP_PORT": "70000"}).faults
    shown = block("docs/options.md", "junebug-turn: amqp.port").splitlines()
    assert [f"junebug-turn: {line}".replace(str(file), "/etc/junebug-turn.yaml") for line in found] == shown


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_in_sentences(page: str) -> None:
    """A command in a sentence or a table is one that a shell can read; its files and modules are there, and a line of
    our log can have the words that it looks for."""
    for command in commands(page):
        # A name in angle brackets is one that the reader knows.
        script = re.sub(r"<[\w-]+>", "NAME", command)
        subprocess.run(["sh", "-n", "-c", script], check=True, timeout=60)
        words = shlex.split(script)
        if words[0] == "make":
            _shell(shlex.join(["make", "-n", *words[1:]]), ROOT)
        for name in re.findall(r"(?<!/)\b(?:etc|tests|docs)/\S+\.\w+", command):
            assert (ROOT / name).exists(), name
        for name in re.findall(r"-m (tools[\w.]+)", command):
            path = ROOT / name.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name
        if words[0] == "journalctl" and "-g" in words:
            pattern = words[words.index("-g") + 1]
            for part in re.split(r"\|", pattern.strip("#()")):
                assert re.search(part, SOURCES, re.IGNORECASE), (command, part)
