"""The news fragments, and the changelog that a release makes of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.reference.contents import anchor
from tools.release.tree import HEADING

ROOT = Path(__file__).parents[2]
KINDS = {
    kind["directory"]: kind["name"]
    for kind in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"]["type"]
}
FRAGMENTS = sorted(path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md")


def test_kinds() -> None:
    """Each fragment has a kind that the changelog has a heading for; another one would not come into it."""
    wrong = [
        path.name
        for path in FRAGMENTS
        if not re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(KINDS)})\.md", path.name)
    ]
    assert not wrong


def test_links() -> None:
    """Each link of a fragment leads to a page and a heading from the changelog, where it will stand."""
    for path in FRAGMENTS:
        text = path.read_text("utf-8")
        for file, target in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            page = ROOT / file
            assert page.is_file(), f"{path.name}: {file}"
            headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
            assert not target or target in map(anchor, headings), f"{path.name}: {file}#{target}"
        bare = re.sub(r"\[[^]]*\]\([^)]*\)", "", text)
        assert not re.search(r"\bdocs/[\w-]+\.md", bare), f"{path.name} names a page without a link"


def test_the_changelog() -> None:
    """A release makes a heading with version and date, as `make release-check` wants it, and below it one for each kind
    of fragment, in the order of a reader."""
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.8.7", "--date", "2026-01-02"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heading = HEADING.search(done.stdout)
    assert heading is not None
    assert heading.groups() == ("9.8.7", "2026-01-02")
    used = {path.name.split(".")[1] for path in FRAGMENTS}
    assert re.findall(r"^### (.*)$", done.stdout, re.MULTILINE) == [
        name for kind, name in KINDS.items() if kind in used
    ]
    assert done.stdout.count("\n- ") == len(FRAGMENTS)
