"""The folder with Debian 13; that its servers run is seen by ``make compat``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.compat import tree
from tools.compat.tree import ensure_tree
from tools.servers.process import ProcessError


@pytest.fixture
def debootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of debootstrap; root's rights are not asked for."""
    script = tmp_path / "debootstrap"
    script.touch(mode=0o755)
    monkeypatch.setattr(tree, "_check_rights", lambda: None)
    monkeypatch.setattr(tree, "ensure_installed", lambda name: None)
    monkeypatch.setattr(tree, "find_program", lambda name: str(script))
    monkeypatch.setattr(tree, "_ENTER", ())
    return script


def test_made_once(debootstrap: Path, tmp_path: Path) -> None:
    """The folder is there whole or not at all, and a later call takes it as it is."""
    debootstrap.write_text('#!/bin/sh\nfor last; do case $last in */made*) mkdir "$last";; esac; done\n')
    assert ensure_tree(tmp_path / "made") == tmp_path / "made"
    (tmp_path / "made" / "file").touch()
    assert ensure_tree(tmp_path / "made") == tmp_path / "made"
    assert (tmp_path / "made" / "file").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["debootstrap", "made", "made.log"]


def test_without_a_network(debootstrap: Path, tmp_path: Path) -> None:
    """A failure is told with its own words, and leaves no folder."""
    debootstrap.write_text("#!/bin/sh\necho no such host; exit 1\n")
    with pytest.raises(ProcessError, match=r"(?s)ended with status 1.*no such host"):
        ensure_tree(tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["debootstrap", "made.log"]


@pytest.mark.parametrize("finishes", [True, False])
def test_packages_in_another_order(
    debootstrap: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finishes: bool
) -> None:
    """Where debootstrap has all packages and fails to install them in their order, they are installed in rounds; where
    that fails too, the log has debootstrap's own."""
    debootstrap.write_text(
        "#!/bin/sh\nfor last; do case $last in */made*) mkdir -p $last/debootstrap $last/usr/sbin\n"
        "echo pre-dependency problem > $last/debootstrap/debootstrap.log;; esac; done; exit 1\n"
    )
    monkeypatch.setattr(tree, "_FINISH", f'test -d "$1/usr/sbin" && exit {int(not finishes)}')
    if finishes:
        assert (ensure_tree(tmp_path / "made") / "usr").is_dir()
    else:
        with pytest.raises(ProcessError, match=r"(?s)ended with status 1.*pre-dependency problem"):
            ensure_tree(tmp_path / "made")
        assert not (tmp_path / "made").exists()


def test_not_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who isn't root is told so."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ProcessError, match="by root only"):
        ensure_tree(tmp_path / "made")


def test_no_mounts(debootstrap: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nothing can be mounted, as in most containers, that is told."""
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    debootstrap.write_text("#!/bin/sh\necho unshare failed: Operation not permitted >&2; exit 1\n")
    monkeypatch.setattr(tree, "find_program", lambda name: str(debootstrap))
    with pytest.raises(ProcessError, match=r"can be mounted here: unshare failed: Operation not permitted"):
        ensure_tree(tmp_path / "made")


def test_no_debootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where debootstrap is missing and can't be installed, that is told."""

    def missing(name: str) -> None:
        raise ProcessError(f"{name} is not installed")

    monkeypatch.setattr(tree, "_check_rights", lambda: None)
    monkeypatch.setattr(tree, "ensure_installed", missing)
    with pytest.raises(ProcessError, match="debootstrap is not installed: it makes the folder"):
        ensure_tree(tmp_path / "made")
