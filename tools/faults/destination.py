"""The daemon's destination in the fault suite: the scriptable receiver in a process of its own.

It answers as its mode says, and prints the path and the ``webhook-id`` of each request that it has answered with 200;
and of a message that it will refuse, with the path ``/refused``.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from typing import Any, Literal, Self

from tools.servers.process import HOST, Process, free_port
from tools.servers.receiver import HANG, RESET, Answer, Received, Receiver

Mode = Literal["ok", "500", "reset", "hang", "trickle", "hold", "one-404", "one-500"]

MODES: dict[Mode, Answer] = {
    # Slow, so that something is always under way.
    "ok": Answer(delay=0.03),
    "500": Answer(500),
    "reset": RESET,
    "hang": HANG,
    "trickle": Answer(body=b"", how="trickle"),
    "hold": Answer(how="hold"),
    "one-404": Answer(404),
    "one-500": Answer(500),
}


class Destination:
    """The destination, from ``with`` on.

    A ``mode`` holds for all requests: ``ok`` answers 200, after a moment; ``500`` that; ``reset`` resets the
    connection; ``hang`` doesn't answer, and ``trickle`` sends a byte of its body now and then, both until
    the mode changes, when they reset the connection; ``hold`` waits until the mode changes and then answers 200;
    ``one-404`` and ``one-500`` answer so to the first inbound message, always, and 200 to all others.

    :param arrived: called, in a thread, with the path and the ``webhook-id`` of each request that is answered 200
    """

    def __init__(self, arrived: Callable[[str, str], None]) -> None:
        self._arrived = arrived
        self._mode: Mode = "ok"
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        self._process = Process(
            "destination",
            [sys.executable, "-m", "tools.faults.destination", str(self._port)],
            on_line=self._read,
        )
        try:
            self._process.wait_for(self.url)
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.stop()

    @property
    def mode(self) -> Mode:
        """The mode; it holds as soon as it is set."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        request = urllib.request.Request(self.url, json.dumps(mode).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=10):
            self._mode = mode

    def _read(self, line: str) -> None:
        path, _, name = line.partition(" ")
        self._arrived(path, name)


class _Receiver(Receiver):
    """The receiver within the process; a PUT sets the mode."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._one: Answer | None = None
        self._refused = ""

    def answer_to(self, request: Received) -> Answer:
        # A long run has too many to keep.
        self.requests.clear()
        if request.method == "PUT":
            mode = request.json
            self._one = MODES[mode] if mode.startswith("one-") else None
            self._refused = ""
            self.default = MODES["ok" if self._one else mode]
            self.release()
        if request.method != "POST":
            return Answer()
        if self._one is not None and request.path == "/inbound":
            name = request.headers["webhook-id"]
            if not self._refused:
                self._refused = name
                print("/refused", name, flush=True)
            if self._refused == name:
                return self._one
        return self.default

    def answered(self, request: Received, answer: Answer) -> None:
        if request.method == "POST" and answer.status == 200:
            print(request.path, request.headers["webhook-id"], flush=True)


def main(port: int) -> None:
    """Serve until the process is ended."""
    from twisted.internet import reactor

    receiver = _Receiver(reactor)
    receiver.default = MODES["ok"]
    receiver.start(port)
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
