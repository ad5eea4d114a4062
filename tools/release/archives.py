"""Contents of the sdist and of the wheel, compared with the source tree and with each other."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("junebug_turn", "twisted")
# What is needed besides to read about the release, to test it, to run it and to install it.
FOLDERS = (*PACKAGES, "docs", "etc", "tests", "tools")
FILES = (
    ".dockerignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "changelog.d/README.md",
    "docker-compose.yml",
    "pyproject.toml",
    "requirements-run.lock",
    "requirements.lock",
    "setup.cfg",
)
MADE = ("dropin.cache", ".pyc")  # the ends of names of files that commands write among the sources


def sources(tree: Path, folders: tuple[str, ...]) -> set[str]:
    """Every source file in these folders of the tree."""
    paths = (path for folder in folders for path in (tree / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(tree)) for path in paths if not path.name.endswith(MADE)}


def sdist_faults(sdist: Path, tree: Path) -> Iterator[str]:
    """Each file that the sdist lacks, and each one in it that is no source file of the tree."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    needed = sources(tree, FOLDERS) | set(FILES)
    yield from (f"{sdist.name} lacks {name}: add it to MANIFEST.in" for name in sorted(needed - names))
    # PKG-INFO and the egg-info are setuptools' own.
    more = {name for name in names - needed if name != "PKG-INFO" and ".egg-info/" not in name}
    yield from (f"{sdist.name} has {name}, which is no source file" for name in sorted(more))


def wheel_faults(wheel: Path, tree: Path) -> Iterator[str]:
    """Each file of the packages that the wheel lacks, and each one in it that is of no package."""
    names = {name for name in _hashes(wheel) if ".dist-info/" not in name}
    needed = sources(tree, PACKAGES)
    yield from (
        f"{wheel.name} lacks {name}: see package_data in setup.cfg" for name in sorted(needed - names)
    )
    yield from (f"{wheel.name} has {name}, which is of no package" for name in sorted(names - needed))


def differences(wheel: Path, other: Path) -> Iterator[str]:
    """Each file that two wheels of the same version do not share."""
    if wheel.name != other.name:
        yield f"the sdist makes {wheel.name}, the tree {other.name}"
        return
    ours, theirs = _hashes(wheel), _hashes(other)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"{wheel.name}: {name} is not the same in the wheels of the sdist and of the tree"


def _hashes(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
