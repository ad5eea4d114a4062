"""Programs of this system, and of another one in a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools.servers.installed import TREE, command, ensure_installed, find_files, find_program, required
from tools.servers.process import ProcessError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a system that has one program."""
    tree = tmp_path / "system"
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "redis-server").symlink_to("/only/there/redis")
    monkeypatch.setenv(TREE, str(tree))
    return tree


def test_this_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no other system is named a program is run by its path."""
    monkeypatch.delenv(TREE, raising=False)
    assert command("sh", tmp_path) == [required("sh")]
    assert find_files("bin/sh") == ["/bin/sh"]


def test_another_system(tree: Path, tmp_path: Path) -> None:
    """Where a folder is named only the programs in it are found, under the paths that they have within; a link may
    lead to a file of that system."""
    assert find_program("redis-server") == "/usr/bin/redis-server"
    assert find_program("sh") is None
    (tree / "usr" / "bin" / "epmd").touch()
    assert find_files("usr/*/epmd") == ["/usr/bin/epmd"]
    assert command("redis-server", tmp_path)[-3:] == [str(tree), str(tmp_path), "/usr/bin/redis-server"]


def test_nothing_is_installed_into_another_system(tree: Path) -> None:
    """What the other system lacks is an error, and this system's program is not taken in its place."""
    ensure_installed("redis-server")
    with pytest.raises(ProcessError, match="sh is not installed"):
        ensure_installed("sh")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_program_of_another_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees its folder at the same path, and the rest of its own system; its mounts are gone when it ends."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    shell = Path(required("sh")).resolve()
    tree, folder = tmp_path / "system", tmp_path / "folder"
    folder.mkdir()
    for name in ("bin", "proc", "dev", "tmp"):
        (tree / name).mkdir(parents=True)
    # Its libraries, under the paths that it asks for.
    for line in subprocess.run(
        ["ldd", shell], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        for word in line.split():
            if word.startswith("/"):
                target = tree / word[1:]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(Path(word).read_bytes())
                target.chmod(0o755)
    (tree / "bin" / "sh").write_bytes(shell.read_bytes())
    (tree / "bin" / "sh").chmod(0o755)
    monkeypatch.setenv(TREE, str(tree))
    mounts = Path("/proc/mounts").read_text()
    script = "echo written > $1/file; for each in /*; do echo $each; done"
    done = subprocess.run(
        [*command("sh", folder), "-c", script, "sh", str(folder)], capture_output=True, text=True, check=True
    )
    assert (folder / "file").read_text() == "written\n"
    assert {"/bin", "/dev", "/proc", "/tmp"} <= set(done.stdout.split())
    assert "/etc" not in done.stdout.split()
    assert Path("/proc/mounts").read_text() == mounts
