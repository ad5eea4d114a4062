"""The tests mirror the house: who changes a module finds its tests in one guess."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FEW_LINES = 60
MAX_LINES = 300

# A module whose tests have another name, or that only a command runs, says so.
ELSEWHERE = re.compile(r"\bTested (?:whole )?by (?:tests/|``make )")

HOUSES = ((ROOT / "junebug_turn", ROOT / "tests" / "unit"), (ROOT / "tools", ROOT / "tests" / "tools"))
MODULES = {
    path: tests / path.relative_to(house).parent / f"test_{path.stem.strip('_')}.py"
    for house, tests in HOUSES
    for path in sorted(house.rglob("*.py"))
    if len(path.read_text("utf-8").splitlines()) >= FEW_LINES
}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_its_tests(module: Path) -> None:
    """A module of 60 lines or more has a test file of its name, or says where it is tested."""
    text, test = module.read_text("utf-8"), MODULES[module]
    if ELSEWHERE.search(text):
        missing = [name for name in re.findall(r"tests/[\w/]+\.py", text) if not (ROOT / name).exists()]
        assert not missing, f"{module.name} names tests that are not there: {', '.join(missing)}"
    else:
        assert test.exists(), f"write {test.relative_to(ROOT)}, or say 'Tested by tests/...' in {module.name}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_go(module: Path) -> None:
    """No module of the package or of its tools has more than 300 lines."""
    assert len(module.read_text("utf-8").splitlines()) <= MAX_LINES
