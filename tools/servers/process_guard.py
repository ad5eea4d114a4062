"""Guard program: runs programs for exactly as long as its caller lives.

``process_guard.py '[["epmd", "-port", "4400"], ["rabbitmq-server"]]'`` starts the programs in order, each in a
session of its own, and stops them in the reverse order when its standard input ends, when it gets SIGTERM, or
when one of them exits.  The standard input is a pipe from the caller: it ends however the caller ends, by
SIGKILL too, so nothing is ever left behind.

It is run by its path and imports nothing of ours.  Tested by tests/tools/servers/test_process.py.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys

STOP_LIMIT = 20.0  # seconds that a program has to stop by itself
# Erlang makes a table of as many entries as there may be files, and containers allow a billion.
MAX_FILES = 65536


def _signal_group(program: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(program.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _stop(program: subprocess.Popen[bytes]) -> None:
    _signal_group(program, signal.SIGTERM)
    try:
        program.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        pass
    # The processes that the program left in its group, or the program itself where it would not stop.
    _signal_group(program, signal.SIGKILL)
    program.wait()


def _limit_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > MAX_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, hard))


def main(commands: list[list[str]]) -> int:
    """Run ``commands`` until a stop is asked for; the status is that of the one that ended by itself, else 0."""
    _limit_files()
    wake_read, wake_write = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(wake_write, b"x"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: list[subprocess.Popen[bytes]] = []
    status = 0
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True))
        while True:
            ended = [program for program in running if program.poll() is not None]
            if ended:
                status = ended[0].returncode or 1
                break
            readable, _, _ = select.select([0, wake_read], [], [], 0.25)
            if readable:
                break
    finally:
        for program in reversed(running):
            _stop(program)
    return status


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])) & 0xFF)
