"""What is built can be installed anywhere and has everything in it: the checks of ``make release-check``."""

from __future__ import annotations

import shutil
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from tools.release import archives, installed, tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree: what an earlier build left in the work tree would be taken for a part of the package."""
    folder = tmp_path_factory.mktemp("source") / "tree"
    made = shutil.ignore_patterns(
        ".[!d]*", "var", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache"
    )
    shutil.copytree(ROOT, folder, ignore=made)
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    installed.run(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source), cwd=ROOT
    )
    return folder


def test_the_wheel_is_complete(built: Path, source: Path) -> None:
    """The wheel has the AMQP table, the typing marker, the plugin and every module, and no tests or demo."""
    (wheel,) = built.glob("*.whl")
    assert list(archives.wheel_faults(wheel, source)) == []


def test_the_sdist_is_complete(built: Path, source: Path) -> None:
    """The sdist has besides what is needed to test it, to run it and to read about it, and nothing else."""
    (sdist,) = built.glob("*.tar.gz")
    assert list(archives.sdist_faults(sdist, source)) == []


def test_an_installed_wheel_is_a_plugin_of_twistd(built: Path, tmp_path: Path) -> None:
    """In an empty environment the wheel brings all that it needs; twistd has the plugin, wherever one is, and every
    command works, with the configuration files that are shipped."""
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    venv.create(tmp_path / "venv", with_pip=False)
    programs = tmp_path / "venv" / "bin"
    # This environment's pip installs into the empty one: making another pip takes longer than all the rest.
    pip = (sys.executable, "-m", "pip", "--python", str(programs / "python"))
    installed.install(pip, ROOT / "requirements-run.lock", wheel)
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert list(installed.faults(programs, unpacked, tree.version(ROOT), tmp_path)) == []
