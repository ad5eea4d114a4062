"""Processes under the guard: they are watched, and end with their starter."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.servers.process import ROOT, Process, ProcessError, answers, free_port, is_free

SLEEP = "import time; time.sleep(60)"


def python(code: str) -> list[str]:
    """The command of a program."""
    return [sys.executable, "-c", code]


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], object], limit: float = 10) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.01)


def test_output_in_a_log(tmp_path: Path) -> None:
    """Both outputs of a program go to its log, whose end stands in the error when it ends by itself."""
    log = tmp_path / "it.log"
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    with Process("program", python(code), log=log) as process:
        with pytest.raises(ProcessError, match=r"(?s)the program ended with status 3\n--- it.log\n"):
            process.wait_until(lambda: False)
        assert process.status == 3
    assert sorted(log.read_text().split()) == ["err", "out"]


def test_output_by_lines() -> None:
    """Each line of the output is given to a function at once, the last ones before the stop ends."""
    lines: list[str] = []
    code = "import time; print('first'); time.sleep(60)"
    with Process("program", python(code), on_line=lines.append):
        until(lambda: lines)
    assert lines == ["first"]


def test_a_wait_in_vain() -> None:
    """A wait ends after its limit with an error that says what wasn't so."""
    error = pytest.raises(ProcessError, match=r"the program isn't pink after 0\.1 seconds")
    with Process("program", python(SLEEP)) as process, error:
        process.wait_until(lambda: False, "isn't pink", 0.1)


def test_waits_for_an_address(tmp_path: Path) -> None:
    """An address answers as soon as a server is up, also where it has nothing."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    assert not answers(url)
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with Process("server", command, cwd=tmp_path, log=tmp_path / "log") as process:
        process.wait_for(f"{url}/absent")
        assert answers(url)


def test_end_by_a_signal() -> None:
    """The program can be ended by a signal; the wait is over when it is gone."""
    with Process("program", python(SLEEP)) as process:
        pid = process.pid
        assert runs(pid)
        process.end(signal.SIGKILL)
        assert not runs(pid)
        assert process.status is not None


def test_all_end_when_one_ends() -> None:
    """Of several programs all end when one does, and the status is that one's."""
    with Process("programs", python(SLEEP), python("import sys; sys.exit(4)")) as process:
        pid = process.pid
        until(lambda: process.status is not None)
        assert process.status == 4
        assert not runs(pid)


def test_it_ends_with_its_starter() -> None:
    """A program ends when its starter is killed."""
    script = (
        "import sys, time\nfrom tools.servers.process import Process\n"
        f"print(Process('program', [sys.executable, '-c', {SLEEP!r}]).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(python(script), cwd=ROOT, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert runs(pid)
        starter.kill()
    until(lambda: not runs(pid))


def test_a_program_leaves_nothing() -> None:
    """What a program leaves in its group is killed when the program has stopped."""
    code = (
        "import os, signal, time\n"
        "if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        # In one piece: print would write the line's end by itself, between the two.
        "os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)"
    )
    lines: list[str] = []
    with Process("program", python(code), on_line=lines.append):
        until(lambda: len(lines) == 2)
    assert not any(runs(int(line)) for line in lines)


def test_other_ports() -> None:
    """Each port that is found is another one: its listener may come later."""
    assert len({free_port() for _ in range(300)}) == 300


def test_free_ports() -> None:
    """A free port can be bound, and one that is bound is not free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        assert not is_free(taken.getsockname()[1])
