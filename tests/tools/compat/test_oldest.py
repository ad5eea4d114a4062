"""The environment with the oldest Twisted; that the certificates' tests pass in it is seen by ``make compat``."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools.compat.oldest import TESTS, ensure_environment, oldest
from tools.servers.process import ROOT, ProcessError


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that would make it; each is taken as done, and one with the word ``broken`` as failed."""
    made: list[list[str]] = []

    def run(command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        made.append(list(command))
        (tmp_path / "environment").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, int(any("broken" in word for word in command)))

    monkeypatch.setattr(subprocess, "run", run)
    return made


def test_the_version() -> None:
    """The version is the lower bound in setup.cfg, and the tests that run on it are there."""
    assert (
        oldest("[options]\ninstall_requires =\n    treq >= 24.9\n    Twisted[tls] >= 24.11, < 27\n")
        == "24.11"
    )
    assert oldest((ROOT / "setup.cfg").read_text("utf-8"))
    assert all((ROOT / test).exists() for test in TESTS)
    with pytest.raises(ProcessError, match="no lowest version"):
        oldest("[options]\ninstall_requires =\n    Twisted[tls] < 27\n")


def test_made_once(commands: list[list[str]], tmp_path: Path) -> None:
    """The environment is made for the first call, and again when the version or the lock file is another one."""
    lock, folder = tmp_path / "requirements.lock", tmp_path / "environment"
    lock.write_text("treq==26.7.0\n", "utf-8")
    for version, times in (("24.11", 1), ("24.11", 1), ("25.5", 2)):
        assert ensure_environment(version, lock, folder) == folder / "bin" / "python"
        assert len(commands) == 3 * times
        assert commands[-1][-1] == f"Twisted[tls] == {version}"
    lock.write_text("treq==26.8.0\n", "utf-8")
    ensure_environment("25.5", lock, folder)
    assert len(commands) == 9


def test_a_version_that_is_not_there(commands: list[list[str]], tmp_path: Path) -> None:
    """When a command fails, that is told, and the next call begins anew."""
    lock, folder = tmp_path / "requirements.lock", tmp_path / "environment"
    lock.write_text("", "utf-8")
    for times in (1, 2):
        with pytest.raises(ProcessError, match="== broken ended with status 1"):
            ensure_environment("broken", lock, folder)
        assert len(commands) == 3 * times
