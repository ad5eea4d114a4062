"""README and the pages of docs/: their links, their contents lists, and the figures and commands that they repeat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.demo.addresses import Addresses

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _headings(path: Path) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.*)$", _without_code(path.read_text("utf-8")), re.MULTILINE)
    return [(len(marks), title) for marks, title in found]


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _anchors(path: Path) -> set[str]:
    return {_anchor(title) for _, title in _headings(path)}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Each link leads to a file that is there, and to a heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text("utf-8"))):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), target


def test_the_figure_of_the_fault_suite() -> None:
    """README's figure of accepted and lost messages is the sum of the table in docs/development.md."""
    table = (ROOT / "docs" / "development.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in re.findall(r"^\| [\w-]+ \| (?:outbound|inbound|event) \|.*$", table, re.MULTILINE)
    ]
    faults = len({row[0] for row in rows})
    accepted, deleted, lost = (sum(int(row[column]) for row in rows) for column in (3, 8, 9))
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"{faults} faults" in readme
    assert f"{accepted:,} accepted messages it lost {lost or 'none'}" in readme
    assert f"{deleted} more were in queues" in readme


def test_the_lines_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """README's lines for the demo are those that `make run` prints, which tests/tools/demo/test_run.py runs."""
    for secret in ("TURN_HMAC_SECRET", "AUTH_TOKEN"):
        monkeypatch.setenv(secret, "a-secret-of-this-test")
    printed = Addresses.of(str(ROOT / "etc" / "junebug-turn.yaml"), 8023, 8024, 8025, 8026).instructions("")
    readme = (ROOT / "README.md").read_text("utf-8")
    lines = re.findall(r"^(?:curl|telnet) .*$", readme, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        assert line in printed


def test_the_commands_of_make() -> None:
    """Each `make` target that a page names is one of the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.read_text("utf-8"), re.MULTILINE))
        assert named <= targets, page
