"""``make audit``: known faults in what we depend on (pip-audit), dangerous patterns in our code (bandit).

An audit that could not look a package up says so and fails: it would be worth less than none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def verdict(report: Any) -> tuple[bool, list[str]]:
    """Whether a report of pip-audit is clean, and the lines to tell.

    Every package must have been looked up: pip-audit itself calls it a success when it could look up none.
    """
    packages = report["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    lines = []
    for package in packages:
        for fault in package.get("vulns", ()):
            fixed = ", ".join(fault["fix_versions"]) or "no version yet"
            lines.append(f"{package['name']} {package['version']}: {fault['id']}, fixed in {fixed}")
    if skipped:
        lines.append(
            f"NOT AUDITED: {len(skipped)} of {len(packages)} packages could not be looked up "
            f"({', '.join(skipped[:5])}{', ...' if len(skipped) > 5 else ''}); is the database within reach?"
        )
    if not packages:
        lines.append("NOT AUDITED: no packages")
    if not lines:
        lines.append(f"{len(packages)} packages, no known fault")
    return not lines[1:] and lines[0].endswith("no known fault"), lines


def dependencies(program: Path) -> bool:
    """Audit requirements.lock; whether all is well."""
    done = subprocess.run(
        [str(program), "-r", "requirements.lock", "--no-deps", "--disable-pip", "-f", "json"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        well, lines = verdict(json.loads(done.stdout))
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        well, lines = False, [f"NOT AUDITED: pip-audit ended with status {done.returncode}: {last[0]}"]
    for line in lines:
        print(f"pip-audit: {line}")
    return well


def code(program: Path) -> bool:
    """Have bandit read our code; exceptions stand in it as "nosec", each with its reason."""
    done = subprocess.run([str(program), "-q", "-r", "junebug_turn", "twisted"], cwd=ROOT, check=False)
    print(f"bandit: {'clean' if done.returncode == 0 else 'not clean'}")
    return done.returncode == 0


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    results = [dependencies(folder / "pip-audit"), code(folder / "bandit")]
    sys.exit(0 if all(results) else 1)
