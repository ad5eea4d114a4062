"""The tests of the tools mirror the tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.servers.process import ROOT

MIN_LINES = 60
MAX_LINES = 300
MODULES = [path.relative_to(ROOT) for path in sorted((ROOT / "tools").rglob("*.py"))]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_module_is_tested(module: Path) -> None:
    """A module of 60 lines or more has a test of its name, or a line that says where it is tested; none is long."""
    text = (ROOT / module).read_text("utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    test = ROOT / "tests" / module.parent / f"test_{module.name}"
    if len(text.splitlines()) >= MIN_LINES and not test.exists():
        assert "\nTested " in text or "  Tested " in text
