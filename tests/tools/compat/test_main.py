"""The runs on the servers of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.compat import __main__ as compat
from tools.compat.__main__ import RUNS, Result, Run, main, play
from tools.servers.installed import TREE
from tools.servers.process import ProcessError
from tools.servers.rabbitmq import SETTINGS


def test_every_run_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each run has the servers and the settings that it names; one that fails stops no other, and each has its log."""
    shown = f"import os; print(os.environ['{TREE}'], os.environ['{SETTINGS}'])"
    runs = [
        Run("one", "fails", "a", ("no_such_module",)),
        Run("two", "passes", "b", ("timeit", "-n1", "-r1", "-s", shown)),
    ]
    logs = tmp_path / "logs"
    failed, passed = play(runs, tmp_path, logs)
    assert (failed.run.name, failed.status) == ("fails", 1)
    assert "No module named no_such_module" in failed.outcome
    assert (passed.run.name, passed.status) == ("passes", 0)
    out = capfd.readouterr().out
    assert f"{tmp_path} b" in out
    assert "--- fails: status 1" in out
    assert "no_such_module" in (logs / "one.log").read_text()
    assert f"{tmp_path} b" in (logs / "two.log").read_text()


# As a test that needs more time than a busy machine gave it.
_AT_SECOND_TRY = "p = pathlib.Path(__file__ + '.tried'); tried = p.exists(); p.touch(); assert tried"


@pytest.mark.parametrize(
    ("body", "status", "first", "second"),
    [
        ("assert True", 0, "2 passed", ""),
        ("assert False", 1, "1 failed, 1 passed", "1 failed"),
        (_AT_SECOND_TRY, 0, "1 failed, 1 passed", "1 passed"),
    ],
)
def test_what_has_failed_is_run_again(
    tmp_path: Path, body: str, status: int, first: str, second: str
) -> None:
    """Tests that have failed are run once more, alone; the run passes where they pass then, and they are named."""
    path = tmp_path / "test_it.py"
    path.write_text(f"import pathlib\ndef test_a():\n    assert True\ndef test_it():\n    {body}\n", "utf-8")
    command = (
        *("pytest", "-q", "-rfE", "-p", "no:hypothesispytest", "--rootdir", str(tmp_path)),
        *("-o", f"cache_dir={tmp_path / 'cache'}", "-c", "/dev/null", str(path)),
    )
    again = (*command, "--last-failed", "--last-failed-no-failures", "none")
    (result,) = play([Run("it", "it", "", command, again)], None, tmp_path)
    assert result.status == status
    assert result.outcome.startswith(first)
    assert (f"once more, one by one: {second}" in result.outcome) is bool(second)
    assert ("test_it.py::test_it" in result.outcome) is bool(second)


@pytest.mark.parametrize(
    ("arguments", "played", "status"),
    [
        ((), ["classic", "quorum", "faults", "certificates"], "Failed on other versions: fault suite"),
        (("faults", "quorum"), ["quorum", "faults"], "Failed on other versions: fault suite"),
        (("certificates",), ["certificates"], None),
        (("no-such-run",), [], "2"),
    ],
)
def test_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: Sequence[str],
    played: list[str],
    status: str | None,
) -> None:
    """The command does all runs, or those that it names, prints a line for each at the end, and fails when one did."""
    monkeypatch.setenv(TREE, "")
    monkeypatch.setattr(compat, "ensure_tree", lambda: tmp_path)
    monkeypatch.setattr(compat, "versions", lambda: "RabbitMQ 4, Redis 8")
    done: list[str] = []

    def play(runs: Sequence[Run], tree: Path | None) -> list[Result]:
        done.extend(run.word for run in runs)
        assert (tree is not None) is any(run.needs_tree for run in runs)
        return [Result(run, int(run.word == "faults"), 1.0, "12 passed") for run in runs]

    monkeypatch.setattr(compat, "play", play)
    if status is None:
        main(arguments)
    else:
        with pytest.raises(SystemExit, match=status):
            main(arguments)
    assert done == played
    summary = capsys.readouterr().out.partition("--- summary\n")[2].splitlines()
    verdicts = ["failed" if word == "faults" else "passed" for word in played]
    assert [line.partition(":")[0] for line in summary] == verdicts


def test_no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there can be no such servers the command says why, and its status is not that of a success."""

    def fail() -> Path:
        raise ProcessError("by root only")

    monkeypatch.setattr(compat, "ensure_tree", fail)
    with pytest.raises(
        SystemExit, match="Nothing was tested on RabbitMQ 4 and Redis 8: by root only"
    ) as ended:
        main([])
    assert ended.value.code not in (0, None)


def test_the_tests_that_run() -> None:
    """The files that the runs name are there."""
    for run in RUNS:
        for argument in run.command:
            if argument.startswith(("tests/", "--ignore=")):
                assert (compat.ROOT / argument.removeprefix("--ignore=")).exists(), argument
