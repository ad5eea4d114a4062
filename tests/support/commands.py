"""The daemon's commands as processes, and what they answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
JB = ("-c", "from junebug_turn.cli.jb import main; main()")
TWISTD = ("-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=", "junebug-turn")

RunCommand = Callable[..., subprocess.Popen[bytes]]


class Commands:
    """Python programs in a folder; their output is in its file ``output``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start one, with no environment but this."""
        with open(self._folder / "output", "wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self._folder,
                env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """Stop all of them."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(60)


def asked(url: str, body: Any = None, *, method: str | None = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON of an answer; with a body it is a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", **headers}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def wait_for(
    url: str, process: subprocess.Popen[bytes], output: Path, status: int | None = None, limit: float = 120
) -> None:
    """Wait until something answers there, with a status where one is given."""
    end = time.monotonic() + limit
    while True:
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < end, output.read_text()
        try:
            if asked(url)[0] == status or status is None:
                return
        except OSError:
            pass
        time.sleep(0.05)
