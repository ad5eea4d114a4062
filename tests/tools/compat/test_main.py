"""The runs on the servers of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.compat import __main__ as compat
from tools.compat.__main__ import Run, main, play
from tools.servers.installed import TREE
from tools.servers.process import ProcessError
from tools.servers.rabbitmq import SETTINGS


def test_every_run_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each run has the servers and the settings that it names; one that fails stops no other, and is named."""
    shown = f"import os; print(os.environ['{TREE}'], os.environ['{SETTINGS}'])"
    runs = [
        Run("fails", "a", ("no_such_module",)),
        Run("passes", "b", ("timeit", "-n1", "-r1", "-s", shown)),
    ]
    assert play(runs, tmp_path) == ["fails"]
    out = capfd.readouterr().out
    assert f"{tmp_path} b" in out
    assert "--- fails: status 1" in out


def test_no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there can be no such servers the command says why, and its status is not that of a success."""

    def fail() -> Path:
        raise ProcessError("by root only")

    monkeypatch.setattr(compat, "ensure_tree", fail)
    with pytest.raises(
        SystemExit, match="Nothing was tested on RabbitMQ 4 and Redis 8: by root only"
    ) as ended:
        main()
    assert ended.value.code not in (0, None)
