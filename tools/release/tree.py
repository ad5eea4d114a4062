"""Version, changelog and news fragments of the source tree: whether they belong to one release."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

FINAL = re.compile(r"\d+\.\d+\.\d+")
HEADING = re.compile(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", re.MULTILINE)
STABLE = "Development Status :: 5 - Production/Stable"


def version(root: Path) -> str:
    """Read the package's version in ``setup.cfg``."""
    return _metadata(root)["version"]


def faults(root: Path) -> Iterator[str]:
    """Each reason why this tree is no release, with what to do."""
    number = version(root)
    if not FINAL.fullmatch(number):
        yield f"setup.cfg: {number} is not a final version: write it as X.Y.Z"
        return
    fragments = {path.name for path in (root / "changelog.d").iterdir()} - {"README.md"}
    if fragments:
        yield (
            f"changelog.d has fragments that are not in CHANGELOG.md ({len(fragments)}, such as {min(fragments)}): "
            f"run `towncrier build --yes --version {number}`"
        )
    newest = HEADING.search((root / "CHANGELOG.md").read_text("utf-8"))
    if newest is None:
        yield f"CHANGELOG.md: there is no heading '## {number} (YYYY-MM-DD)'"
    elif newest[1] != number:
        yield f"CHANGELOG.md: the newest heading is of {newest[1]}, but setup.cfg has {number}"
    described = json.loads((root / "docs" / "openapi.json").read_text("utf-8"))["info"]["version"]
    if described != number:
        yield f"docs/openapi.json is of {described}, but setup.cfg has {number}: run `make docs`"
    if not number.startswith("0.") and STABLE not in _metadata(root)["classifiers"].splitlines():
        yield f"setup.cfg: {number} needs the classifier '{STABLE}'"


def _metadata(root: Path) -> dict[str, str]:
    config = ConfigParser(interpolation=None)
    config.read_string((root / "setup.cfg").read_text("utf-8"))
    return dict(config["metadata"])
