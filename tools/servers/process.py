"""Processes that never outlive their starter, and the base of the private servers.

Each runs under ``process_guard.py``, in sessions of its own; its output goes to a log file or to a function.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Self

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 60.0  # seconds
_GUARD = Path(__file__).with_name("process_guard.py")
_found: set[int] = set()  # by free_port


class ProcessError(Exception):
    """A program can't be found, started or spoken to; the text says why, with the end of its log."""


def daemon_command(config: Path | str) -> list[str]:
    """Return the command of the installed daemon under twistd."""
    twistd = str(Path(sys.executable).with_name("twistd"))
    return [sys.executable, twistd, "-n", "--pidfile=", "junebug-turn", "--config", str(config)]


def free_port() -> int:
    """Find a port without a listener, below the range from which the system takes ports for clients, another one each
    time: one that was found may have its listener only later."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        if port not in _found and is_free(port):
            _found.add(port)
            return port
    raise ProcessError("no free port between 20000 and 32000")


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a listener can have the port."""
    with socket.socket() as probe:
        # Connections that ended a moment ago don't keep a listener away.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def answers(url: str) -> bool:
    """Whether ``url`` answers 200; a server that has nothing there, or nothing to GET, is up as well."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code in (404, 405)
    except OSError:
        return False


class Process:
    """Programs that run until ``stop()``, and never longer than this process.

    :param name: for the errors
    :param log: the file that their output goes to; or
    :param on_line: called with each line of it, without its end, in a thread
    """

    def __init__(
        self,
        name: str,
        *commands: Sequence[str],
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.name = name
        self._log = log
        if on_line is not None:
            # Python holds back what it prints into a pipe.
            env = {**(os.environ if env is None else env), "PYTHONUNBUFFERED": "1"}
        with open(log or os.devnull, "wb") as file:
            self._guard = subprocess.Popen(
                [sys.executable, str(_GUARD), json.dumps(commands)],
                stdin=subprocess.PIPE,
                stdout=file if on_line is None else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # The terminal's Ctrl-C is for the caller alone, who then stops what it started in order.
                start_new_session=True,
                env=env,
                cwd=cwd,
            )
        self._reader: threading.Thread | None = None
        if on_line is not None:
            assert self._guard.stdout is not None
            self._reader = threading.Thread(target=_read, args=(self._guard.stdout, on_line), daemon=True)
            self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def status(self) -> int | None:
        """The status of the program that ended by itself; None as long as all run."""
        return self._guard.poll()

    @cached_property
    def pid(self) -> int:
        """The process id of the first program.

        :raises ProcessError: it does not start
        """
        children = Path(f"/proc/{self._guard.pid}/task/{self._guard.pid}/children")
        self.wait_until(children.read_text, "does not start")
        return int(children.read_text().split()[0])

    def check(self) -> None:
        """Look whether all still run.

        :raises ProcessError: one has ended
        """
        if self.status is not None:
            raise ProcessError(f"the {self.name} ended with status {self.status}{self.log_tail()}")

    def wait_until(
        self,
        condition: Callable[[], object],
        failure: str = "isn't ready",
        limit: float = START_LIMIT,
        every: float = 0.01,
    ) -> None:
        """Wait until ``condition()`` is true.

        :param failure: says in an error what it isn't yet
        :param limit: seconds
        :param every: seconds between two questions
        :raises ProcessError: it is not so in time, or a program has ended
        """
        deadline = time.monotonic() + limit
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"the {self.name} {failure} after {limit:g} seconds{self.log_tail()}")
            time.sleep(every)

    def wait_for(self, url: str, every: float = 0.01) -> None:
        """Wait until ``url`` answers.

        :raises ProcessError: it doesn't
        """
        self.wait_until(lambda: answers(url), f"does not answer at {url}", every=every)

    def log_tail(self, size: int = 4000) -> str:
        """Return the end of the log, for an error's text; it is empty if there is no log."""
        if self._log is None:
            return ""
        return f"\n--- {self._log.name}\n{self._log.read_text('utf-8', 'replace')[-size:]}"

    def end(self, how: signal.Signals) -> None:
        """End the first program by a signal, and wait until all are gone."""
        os.kill(self.pid, how)
        self._guard.wait()

    def begin_stop(self) -> None:
        """Have the programs stopped, without waiting."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()

    def stop(self) -> None:
        """Stop the programs and wait until they are gone; they may be already."""
        self.begin_stop()
        self._guard.wait()
        if self._reader is not None:
            self._reader.join(1)


def _read(output: IO[bytes], on_line: Callable[[str], None]) -> None:
    with output:
        for line in output:
            on_line(line.decode("utf-8", "replace").rstrip("\n"))


class Server(ABC):
    """A private server from ``start()`` to ``stop()``, or to the end of this process, however it ends.

    :param name: of the program
    :param folder: its data, which stay; None makes one that goes with ``close()``
    :param port: None takes a free one
    """

    host = HOST

    def __init__(self, name: str, folder: Path | None = None, port: int | None = None) -> None:
        self.name = name
        self._temporary = folder is None
        self.folder = folder.resolve() if folder else Path(tempfile.mkdtemp(prefix=f"junebug-turn-{name}-"))
        self.port = port or free_port()
        self._process: Process | None = None
        atexit.register(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Start the server and wait until it answers; the data of a stopped one are there again.

        :raises ProcessError: not installed, or not ready in time
        """

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers as one that is ready."""

    def _run(self, *commands: Sequence[str], limit: float, env: Mapping[str, str] | None = None) -> None:
        """Run the server's programs and wait until it answers.

        :param limit: seconds
        :raises ProcessError: the port is taken, or the server isn't ready in time
        """
        if not is_free(self.port):
            raise ProcessError(f"{self.host}:{self.port} is taken by another program")
        log = self.folder / "output.log"
        self._process = Process(self.name, *commands, log=log, env=env, cwd=self.folder)
        try:
            self.wait_until_ready(limit)
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self, limit: float) -> None:
        """Wait until the server answers.

        :param limit: seconds
        :raises ProcessError: it isn't running, ends or doesn't answer
        """
        if self._process is None:
            raise ProcessError(f"the {self.name} isn't running")
        self._process.wait_until(self.answers, limit=limit)

    def check(self) -> None:
        """Look whether the server still runs, unless it was stopped.

        :raises ProcessError: it has ended by itself
        """
        if self._process is not None:
            self._process.check()

    def stop(self) -> None:
        """Stop the server and wait until it is gone; its data stay."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def close(self) -> None:
        """Stop the server for good; a folder that was made for it goes."""
        self.stop()
        atexit.unregister(self.close)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
