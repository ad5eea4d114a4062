"""The log file: its rights, and how it is opened anew."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from junebug_turn.telemetry.logging.file import LogFile
from tests.support.log import Log


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("before", "after"), [(None, 0o640), (0o644, 0o640), (0o666, 0o660), (0o600, 0o600)])
def test_rights(tmp_path: Path, before: int | None, after: int) -> None:
    """Others neither read nor write the file, whether it is new or was there; the rest stays as the operator set it."""
    path = tmp_path / "log"
    umask = os.umask(0)
    try:
        if before is not None:
            path.touch()
            path.chmod(before)
        file = LogFile(str(path))
        assert _mode(path) == after
        path.unlink()
        file.reopen()
        assert _mode(path) == 0o640
    finally:
        os.umask(umask)


def test_lines_are_appended(tmp_path: Path) -> None:
    """What the file holds stays, and what is written stands in it at once."""
    path = tmp_path / "log"
    path.write_text("before\n")
    LogFile(str(path)).write("é\n")
    assert path.read_text("utf-8") == "before\né\n"


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name stays that of the folder in which it was opened first."""
    monkeypatch.chdir(tmp_path)
    file = LogFile("log")
    (tmp_path / "log").unlink()
    monkeypatch.chdir("/")
    file.reopen()
    assert (tmp_path / "log").exists()


def test_a_file_that_cannot_be_opened_anew(made: Callable[..., Log]) -> None:
    """Where the new file can't be opened, lines go on into the one before, the first of them says so, and the next
    signal tries again."""
    log = made()
    log.logger.info("one")
    moved = log.path.with_name("log.1")
    log.path.rename(moved)
    log.path.mkdir()
    log.observer.reopen()
    log.logger.info("two")
    lines = moved.read_text().splitlines()
    assert lines[0].endswith("one")
    assert lines[1].endswith("two")
    log.path.rmdir()
    log.observer.reopen()
    log.logger.info("three")
    assert [line.split("] ")[1] for line in log.lines] == ["three"]
