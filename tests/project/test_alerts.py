"""The alert rules and the dashboard, read by Prometheus' own promtool; and docs/alerts.md, which says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.servers.installed import required

ROOT = Path(__file__).parents[2]
RULES = ROOT / "etc" / "prometheus-alerts.yaml"
DASHBOARD = ROOT / "etc" / "grafana-dashboard.json"
CASES = ROOT / "tests" / "fixtures" / "prometheus-alerts-test.yaml"
PAGE = ROOT / "docs" / "alerts.md"
LABELS = re.compile(r'(\w+)="')
PARTS = ("Urgent?", "Lost meanwhile:", "First command:", "Causes:")
PAGES = "https://example.org/junebug-turn/docs/"


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def firing() -> dict[str, set[str]]:
    """Each alert that fires in a case -> the labels that it has there."""
    found: dict[str, set[str]] = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["promql_expr_test"]:
            for sample in check["exp_samples"]:
                (alert,) = re.findall(r'alertname="(\w+)"', sample["labels"])
                found[alert] = set(LABELS.findall(sample["labels"]))
    return found


def calm() -> set[str]:
    """The alerts for which there is a case in which nothing fires."""
    cases = yaml.safe_load(CASES.read_text())["tests"]
    checks = [check for case in cases for check in case["promql_expr_test"]]
    return {
        name
        for check in checks
        if not check["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', check["expr"])
    }


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("command", [("check", "rules", RULES), ("test", "rules", CASES)])
def test_promtool(command: tuple[str | Path, ...]) -> None:
    """Each alert fires for the series that it is for, and for no others: promtool says so."""
    ended = subprocess.run([required("promtool"), *command], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_is_tested() -> None:
    """There is a case in which it fires, and one in which it doesn't."""
    assert set(firing()) == set(rules())
    assert calm() == set(rules())


@pytest.mark.parametrize(("name", "rule"), rules().items())
def test_an_alert(name: str, rule: dict[str, Any]) -> None:
    """It has a severity, a summary of labels that it has, a description that begins with whether it is urgent, and the
    absolute URL of its section."""
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(re.findall(r"\$labels\.(\w+)", notes["summary"])) <= firing()[name]
    urgent = notes["description"].startswith("Urgent")
    assert urgent == (rule["labels"]["severity"] == "critical")
    assert notes["runbook_url"] == f"{PAGES}alerts.md#{name.lower()}"


def test_the_address_of_the_runbook(tmp_path: Path) -> None:
    """One command, the same in the page and in the rules, has every link lead to the operator's copy of the page; the
    rules are otherwise as before."""
    (command,) = re.findall(r"^ *(sed -i .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert f"#   {command}\n" in RULES.read_text("utf-8")
    installed = tmp_path / "prometheus-alerts.yaml"
    installed.write_text(RULES.read_text("utf-8"))
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    changed = yaml.safe_load(installed.read_text("utf-8"))["groups"]
    assert "example.org" not in installed.read_text("utf-8")
    address = command.split("|")[2]
    for group in changed:
        for rule in group["rules"]:
            link = rule["annotations"]["runbook_url"]
            assert link == f"{address}/docs/alerts.md#{rule['alert'].lower()}"
            rule["annotations"]["runbook_url"] = link.replace(address, PAGES.removesuffix("/docs/"))
    assert changed == yaml.safe_load(RULES.read_text("utf-8"))["groups"]


@pytest.mark.parametrize(("name", "rule"), rules().items())
def test_its_section(name: str, rule: dict[str, Any]) -> None:
    """Its section in docs/alerts.md says whether it is urgent, what is lost, the first command, and the causes."""
    section = sections()[name]
    found = [re.search(rf"^- \*\*{re.escape(part)}\*\* (.+)", section, re.MULTILINE) for part in PARTS]
    assert all(found), [part for part, match in zip(PARTS, found, strict=True) if not match]
    urgent, _, command, _ = (match[1] for match in found if match)
    assert urgent.startswith("Yes") == (rule["labels"]["severity"] == "critical")
    assert re.match(r"`[^`]+`$", command)


def test_the_page() -> None:
    """It has no section of an alert that is no more, and all its links lead to headings."""
    assert {name for name in sections() if name.startswith("Junebug")} == set(rules())
    for file, anchor in re.findall(r"\]\(([\w.]*)#?([\w-]*)\)", PAGE.read_text()):
        page = PAGE.parent / file if file else PAGE
        assert page.exists()
        assert not anchor or anchor in anchors(page), f"{file}#{anchor}"


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def test_the_dashboard_s_queries(tmp_path: Path) -> None:
    """Prometheus can read each query of the dashboard."""
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    values = {"$__rate_interval": "5m", "$instance": ".*", "$connector": ".*"}
    for variable, value in values.items():
        queries = [query.replace(variable, value) for query in queries]
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    ended = subprocess.run(
        [required("promtool"), "check", "rules", rules], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "$" not in "".join(queries)


def test_the_dashboard_s_panels() -> None:
    """The first row says whether messages flow, by colours; each panel says what it shows, and none covers another."""
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows[0] == panels()[0]["title"] == "Does it flow?"
    places = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert not cells & places, panel["title"]
        places |= cells
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
        if panel["type"] == "stat":
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_dashboard_s_variables() -> None:
    """One connector, or some, can be chosen: each query of a metric of connectors has that choice."""
    variables = {each["name"] for each in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    assert variables == {"datasource", "instance", "connector"}
    others = re.compile(r"junebug_turn_(broker|circuit|certificate|unconfirmed|info|operator)|process_")
    for panel in panels():
        for target in panel.get("targets", ()):
            for name, labels in re.findall(r"(\w+)\{([^}]*)\}", target["expr"]):
                assert 'instance=~"$instance"' in labels
                assert ('connector=~"$connector"' in labels) == (others.match(name) is None), name
