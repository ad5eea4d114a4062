"""What is built can be installed anywhere and has everything in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NEEDED = {
    "junebug_turn/py.typed",
    "junebug_turn/amqp/amqp0-9-1.xml",
    "junebug_turn/http/admin/operators/static/operators.css",
    "junebug_turn/http/admin/operators/static/operators.js",
    "twisted/plugins/junebug_turn_plugin.py",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "tree"
    # From a copy: what an earlier build left in the work tree would be taken for a part of the package.
    ignored = shutil.ignore_patterns(
        ".*", "var", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source))
    return folder


def _run(*command: str, cwd: Path = ROOT) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_is_complete(built: Path) -> None:
    """The wheel has the AMQP table, the typing marker, the plugin and every module, and no tests or demo."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "junebug_turn").rglob("*.py")}
    assert names >= NEEDED | modules
    packages = {name.split("/")[0] for name in names}
    assert {name for name in packages if not name.endswith(".dist-info")} == {"junebug_turn", "twisted"}


def test_the_sdist_is_complete(built: Path) -> None:
    """The sdist has besides what is needed to test it, to run it and to read about it."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    others = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "Makefile",
        "requirements.lock",
        "requirements-run.lock",
        "etc/junebug-turn.yaml",
    }
    assert names >= NEEDED | others | {"tests/conftest.py", "tools/servers/install-system.sh"}


def test_an_installed_wheel_is_a_plugin_of_twistd(built: Path, tmp_path: Path) -> None:
    """In an empty environment the wheel brings all that it needs; twistd has the plugin, wherever one is."""
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    # This environment's pip installs into the empty one: making another pip takes longer than all the rest.
    pip = (sys.executable, "-m", "pip", "--python", python)
    # The commands of docs/operations.md: nothing is installed whose hash is not in the file.
    _run(
        *pip,
        "install",
        "-q",
        "--no-compile",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(ROOT / "requirements-run.lock"),
    )
    _run(*pip, "install", "-q", "--no-deps", str(wheel))
    _run(*pip, "check")
    twistd = str(tmp_path / "venv" / "bin" / "twistd")
    assert "junebug-turn" in _run(twistd, "--help", cwd=tmp_path)
    assert "--amqp-hostname" in _run(twistd, "junebug-turn", "--help", cwd=tmp_path)
    command = str(tmp_path / "venv" / "bin" / "junebug-turn")
    assert "purge" in _run(command, "parked", "--help", cwd=tmp_path)
    assert "--redis-host" in _run(str(tmp_path / "venv" / "bin" / "jb"), "--help", cwd=tmp_path)
