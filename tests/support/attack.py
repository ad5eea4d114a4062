"""The measurements of an attack on a daemon: its memory above rest, and how long others wait meanwhile."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.hostile import TURN, Client, HostileDaemon

MEGABYTE = 1024 * 1024
BODIES = int(os.environ.get("HOSTILE_BODIES", "3000"))
LARGE = BODIES > 3000
"""Whether attacks have their real size, as in ``make hostile``."""

OTHERS_WAIT = 1.0 if LARGE else 5.0
"""Seconds; the small form runs beside other tests, on machines that stop for a second by themselves."""

PAUSE = 0.01
"""Seconds between two requests of the others."""


def send_message(client: Client, number: int) -> None:
    """Send a small message, as Turn does."""
    body = {"to": f"+2782{number:07}", "turn": {"type": "text", "text": {"body": "a message of others"}}}
    status, answer = client.post(TURN, json.dumps(body).encode())
    assert status == 200, answer


def ask_health(client: Client, number: int) -> None:
    """Ask for the health, which needs no broker; it is answered whatever it is."""
    client.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.answer()[0] in (200, 500)


@contextmanager
def attack(
    daemon: HostileDaemon,
    *,
    memory: int = 150 * MEGABYTE,
    others: Callable[[Client, int], None] = send_message,
) -> Iterator[None]:
    """Assert that what is done meanwhile takes no more than ``memory`` above the memory at rest, in bytes, and that
    99 of 100 requests of ``others``, on a connection of their own, are answered in OTHERS_WAIT.

    The last of these begins when the attack is over.
    """
    waited: list[float] = []
    faults: list[BaseException] = []
    over = threading.Event()

    def ask(client: Client) -> None:
        try:
            while True:
                last, start = over.is_set(), time.monotonic()
                others(client, len(waited))
                waited.append(time.monotonic() - start)
                if last:
                    return
                over.wait(PAUSE)
        except BaseException as fault:
            faults.append(fault)

    with daemon.client(timeout=120) as client:
        others(client, 0)
        daemon.forget_peak()
        rest = daemon.peak
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
    if faults:
        raise faults[0]
    taken, p99 = daemon.peak - rest, sorted(waited)[int(0.99 * (len(waited) - 1))]
    print(f"memory above rest: {taken / MEGABYTE:.1f} MB; others: p99 {p99:.3f} s of {len(waited)} requests")
    assert taken < memory
    assert p99 < OTHERS_WAIT
