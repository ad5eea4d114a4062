"""README and the pages of docs/: their links, their contents lists, and the figures and commands that they repeat."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from junebug_turn.cli.main import parser
from tools.demo.addresses import Addresses
from tools.reference.contents import LONG, anchor, updated

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# The next release makes them a part of CHANGELOG.md.
FRAGMENTS = sorted(ROOT.glob("changelog.d/*.md"))


def _without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _headings(path: Path) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.*)$", _without_code(path.read_text("utf-8")), re.MULTILINE)
    return [(len(marks), title) for marks, title in found]


def _anchors(path: Path) -> set[str]:
    return {anchor(title) for _, title in _headings(path)}


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
    for page in (*PAGES, *FRAGMENTS):
        named = set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.read_text("utf-8"), re.MULTILINE))
        assert named <= targets, page


def test_contents_lists() -> None:
    """Each long page has a list of its sections before the first of them; a short one has none."""
    for page in ROOT.glob("docs/*.md"):
        text = page.read_text("utf-8")
        sections = [title for level, title in _headings(page) if level == 2]
        listed = re.findall(r"^- \[.*?\]\(#(.*?)\)$", text.partition("\n## ")[0], re.MULTILINE)
        whole = updated(text)
        assert whole == text, f"{page.name}: run `make docs` and commit the result"
        if "<!-- contents:" in text:
            assert listed == [anchor(title) for title in sections]
        else:
            assert text.count("\n") <= LONG or not sections


def test_a_contents_list() -> None:
    """A page that grows gets its list, one that shrinks loses it, and code is no section."""
    long = "# Page\n\nText.\n\n## One `a`\n\n```sh\n## no section\n```\n\n## Two\n" + "line\n" * LONG
    with_list = updated(long)
    assert "- [One a](#one-a)\n- [Two](#two)\n" in with_list
    assert "no section](" not in with_list
    assert updated(with_list) == with_list
    assert updated(with_list.replace("line\n", "", 100)) == long.replace("line\n", "", 100)


def _commands(text: str) -> list[list[str]]:
    """The words after ``junebug-turn`` of each command in a page's code, without redirections and pipes."""
    blocks = re.findall(r"^ *```(?:sh|text)?\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:/\S*/)?junebug-turn [^`]+)`", _without_code(text))
    found = []
    for line in lines:
        command = re.match(
            r" *(?:\$ )?(?:sudo )?(?:\S*/)?junebug-turn ((?:parked|trace|check-config|import-j|-)\S*.*)", line
        )
        if command:
            found.append(shlex.split(re.split(r" (?:[|<>;]|&&) |  +#", command[1])[0]))
    return found


@pytest.mark.parametrize("page", [*PAGES, *FRAGMENTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_junebug_turn(page: Path) -> None:
    """Each `junebug-turn` command of a page is one that the command line understands."""
    for words in _commands(page.read_text("utf-8")):
        # The name of a command in a sentence is no command line, and help ends the process.
        if len(words) > 1 and words[-1] not in ("...", "--help"):
            parser().parse_args(words)
