"""What the archives of a release must have in them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tools.release.archives import FILES, differences, sdist_faults, wheel_faults

PACKAGED = ("junebug_turn/py.typed", "junebug_turn/amqp/codec.py", "twisted/plugins/plugin.py")
OTHERS = ("docs/openapi.json", "etc/man/junebug-turn.1", "tests/fixtures/alerts.yaml", "tools/demo/run.py")
OWN = ("PKG-INFO", "junebug_turn.egg-info/SOURCES.txt")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree, with files that commands have made in it."""
    for name in (*FILES, *PACKAGED, *OTHERS, "junebug_turn/x.pyc", "twisted/plugins/dropin.cache"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "tree"


def an_sdist(tree: Path, names: Iterable[str]) -> Path:
    path = tree.parent / "junebug_turn-1.0.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"junebug_turn-1.0.0/{name}"), io.BytesIO())
    return path


def a_wheel(
    folder: Path, files: Mapping[str, str], name: str = "junebug_turn-1.0.0-py3-none-any.whl"
) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return folder / name


@pytest.mark.parametrize("missing", [*OTHERS, PACKAGED[0], "requirements-run.lock"])
def test_the_sdist(tree: Path, missing: str) -> None:
    """The sdist has every source file, in whichever folder, and the files that installing it needs."""
    whole = {*FILES, *PACKAGED, *OTHERS, *OWN}
    assert list(sdist_faults(an_sdist(tree, whole), tree)) == []
    assert list(sdist_faults(an_sdist(tree, whole - {missing}), tree)) == [
        f"junebug_turn-1.0.0.tar.gz lacks {missing}: add it to MANIFEST.in"
    ]


def test_more_in_the_sdist(tree: Path) -> None:
    """The sdist has nothing that is no source file, such as a secret beside the sources."""
    sdist = an_sdist(tree, {*FILES, *PACKAGED, *OTHERS, *OWN, "etc/secrets/token"})
    (fault,) = sdist_faults(sdist, tree)
    assert fault == "junebug_turn-1.0.0.tar.gz has etc/secrets/token, which is no source file"


def test_the_wheel(tree: Path) -> None:
    """The wheel has every file of the packages, and nothing else."""
    metadata = "junebug_turn-1.0.0.dist-info/METADATA"
    assert list(wheel_faults(a_wheel(tree.parent, dict.fromkeys((*PACKAGED, metadata), "")), tree)) == []
    lacking = a_wheel(tree.parent, dict.fromkeys((*PACKAGED[1:], "tests/test.py"), ""))
    assert list(wheel_faults(lacking, tree)) == [
        f"{lacking.name} lacks junebug_turn/py.typed: see package_data in setup.cfg",
        f"{lacking.name} has tests/test.py, which is of no package",
    ]


def test_the_same_wheel(tmp_path: Path) -> None:
    """The sdist makes the same wheel as the tree: the same name, files and contents."""
    wheel = a_wheel(tmp_path / "a", {"a.py": "1", "b.py": "2"})
    assert list(differences(wheel, a_wheel(tmp_path / "b", {"b.py": "2", "a.py": "1"}))) == []
    (fault,) = differences(wheel, a_wheel(tmp_path / "b", {"a.py": "1", "b.py": "3"}))
    assert "b.py is not the same" in fault
    (fault,) = differences(wheel, a_wheel(tmp_path / "b", {"a.py": "1"}))
    assert "b.py is not the same" in fault
    (fault,) = differences(wheel, a_wheel(tmp_path / "b", {}, "junebug_turn-1.0.1-py3-none-any.whl"))
    assert fault == f"the sdist makes {wheel.name}, the tree junebug_turn-1.0.1-py3-none-any.whl"
