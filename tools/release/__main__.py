"""``make release-check``: builds the release of the last commit, installs it as a user does, and names each fault.

What was checked is in ``dist/`` afterwards.  Tested by ``make release-check``; its parts have tests of their own, and
run in tests/project/test_packaging.py.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tools.release import archives, installed, tree
from tools.release.installed import ReleaseError, run

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
WORK = ROOT / "build" / "release"


def check(python: str) -> Iterator[str]:
    """Build, check and install; each fault.

    :param python: the Python of an environment with ``build`` and ``twine``
    :raises ReleaseError: a command of the check failed, so that the rest could not be checked
    """
    version = tree.version(ROOT)
    print(f"junebug-turn {version}: the tree")
    yield from tree.faults(ROOT)
    # The commit is built, and nothing that lies beside it.
    changes = run("git", "status", "--porcelain", cwd=ROOT).splitlines()
    if changes:
        yield f"git: commit what is to be released ({len(changes)}, such as {changes[0][3:]}): the last commit is built"
    source = _exported()

    print("building the sdist, the wheel from it, and a wheel from the tree")
    shutil.rmtree(DIST, ignore_errors=True)
    run(python, "-m", "build", "--outdir", str(DIST), str(source), cwd=WORK)
    run(python, "-m", "build", "--wheel", "--outdir", str(WORK / "direct"), str(source), cwd=WORK)
    (sdist,), (wheel,), (direct,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl"), (WORK / "direct").glob("*.whl")
    yield from archives.sdist_faults(sdist, source)
    yield from archives.wheel_faults(wheel, source)
    yield from archives.differences(wheel, direct)

    print("twine check --strict")
    run(python, "-m", "twine", "check", "--strict", str(sdist), str(wheel), cwd=WORK)

    print("installing the wheel into an empty environment, and running its commands")
    with tarfile.open(sdist) as archive:
        archive.extractall(WORK, filter="data")
    unpacked = WORK / sdist.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "venv", str(WORK / "installed"), cwd=WORK)
    programs = WORK / "installed" / "bin"
    pip = (str(programs / "python"), "-m", "pip")
    installed.install(pip, unpacked / "requirements-run.lock", wheel)
    elsewhere = WORK / "elsewhere"
    elsewhere.mkdir()
    yield from installed.faults(programs, unpacked, version, elsewhere)


def _exported() -> Path:
    """Export the last commit into a new folder."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    archive = WORK / "source.tar"
    run("git", "archive", "--output", str(archive), "--prefix", "source/", "HEAD", cwd=ROOT)
    with tarfile.open(archive) as files:
        files.extractall(WORK, filter="data")
    return WORK / "source"


def main(python: str) -> int:
    """Print the result; the exit status."""
    found = []
    try:
        for fault in check(python):
            print(f"  FAULT {fault}")
            found.append(fault)
    except ReleaseError as error:
        print(f"release-check: {error}", file=sys.stderr)
        return 1
    if found:
        print(f"Not a release. Faults: {len(found)}")
        return 1
    print(f"Ready: {', '.join(f'dist/{path.name}' for path in sorted(DIST.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1]))
