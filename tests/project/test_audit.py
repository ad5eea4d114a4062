"""The verdict of ``make audit``."""

from __future__ import annotations

from tests.project.audit import verdict

GOOD = {"name": "attrs", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


def test_verdict() -> None:
    """Only an audit that looked up every package and found nothing is clean."""
    assert verdict({"dependencies": [GOOD, GOOD]}) == (True, ["2 packages, no known fault"])
    assert verdict({"dependencies": [GOOD, BAD]}) == (False, ["b 2: PYSEC-1, fixed in 3"])
    well, lines = verdict({"dependencies": [GOOD, SKIPPED]})
    assert not well
    assert lines[0].startswith("NOT AUDITED: 1 of 2 packages")
    assert verdict({"dependencies": []})[0] is False
