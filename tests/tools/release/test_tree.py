"""What the source tree must say of a release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.release.tree import faults, version

SETUP = """[metadata]
name = junebug-turn
version = {version}
classifiers =
    Development Status :: {status}
    Framework :: Twisted
"""
NEWEST = "# Changes\n\n## 1.2.0 (2026-05-04)\n\n- New.\n\n## 1.1.0 (2026-01-02)\n\n- Old.\n"


def released(root: Path, *, number: str = "1.2.0", status: str = "5 - Production/Stable") -> Path:
    (root / "setup.cfg").write_text(SETUP.format(version=number, status=status))
    (root / "CHANGELOG.md").write_text(NEWEST)
    for folder in ("changelog.d", "docs"):
        (root / folder).mkdir()
    (root / "changelog.d" / "README.md").write_text("# News fragments\n")
    (root / "docs" / "openapi.json").write_text(json.dumps({"info": {"version": number}}))
    return root


def test_a_release(tmp_path: Path) -> None:
    """A tree has no fault whose version is that of its newest changelog heading, with no fragment left over."""
    assert list(faults(released(tmp_path))) == []
    assert version(tmp_path) == "1.2.0"


def test_a_development_version(tmp_path: Path) -> None:
    """A version that is not final is the only fault, since the rest belongs to a final one."""
    (tmp_path / "setup.cfg").write_text(SETUP.format(version="1.3.0.dev0", status="4 - Beta"))
    assert list(faults(tmp_path)) == ["setup.cfg: 1.3.0.dev0 is not a final version: write it as X.Y.Z"]


@pytest.mark.parametrize("kind", ["highlight", "feature", "bugfix", "doc", "removal", "typo"])
def test_fragments_left_over(tmp_path: Path, kind: str) -> None:
    """News fragments of any kind that are not in the changelog are a fault, with the command that moves them."""
    (released(tmp_path) / "changelog.d" / f"a-change.{kind}.md").write_text("New.\n")
    (fault,) = faults(tmp_path)
    assert fault == (
        f"changelog.d has fragments that are not in CHANGELOG.md (1, such as a-change.{kind}.md): "
        "run `towncrier build --yes --version 1.2.0`"
    )


@pytest.mark.parametrize(
    ("changelog", "expected"),
    [
        ("# Changes\n", "there is no heading '## 1.2.0 (YYYY-MM-DD)'"),
        ("# Changes\n\n## 1.2.0\n", "there is no heading '## 1.2.0 (YYYY-MM-DD)'"),
        (NEWEST.replace("1.2.0", "1.2.1"), "the newest heading is of 1.2.1, but setup.cfg has 1.2.0"),
    ],
)
def test_the_newest_heading(tmp_path: Path, changelog: str, expected: str) -> None:
    """The newest heading of the changelog has the package's version and a date."""
    (released(tmp_path) / "CHANGELOG.md").write_text(changelog)
    assert list(faults(tmp_path)) == [f"CHANGELOG.md: {expected}"]


def test_the_openapi_document(tmp_path: Path) -> None:
    """The OpenAPI document has the package's version."""
    (released(tmp_path) / "docs" / "openapi.json").write_text('{"info": {"version": "1.1.0"}}')
    (fault,) = faults(tmp_path)
    assert fault == "docs/openapi.json is of 1.1.0, but setup.cfg has 1.2.0: run `make docs`"


def test_the_classifier(tmp_path: Path) -> None:
    """A version from 1.0 on is no beta."""
    (fault,) = faults(released(tmp_path, status="4 - Beta"))
    assert "Development Status :: 5 - Production/Stable" in fault
