"""Measures of the benchmark, each a dictionary of figures; times in milliseconds, memory in bytes.

Tested whole by ``make bench-quick``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tools.bench import load
from tools.bench.messages import (
    event_body,
    inbound_body,
    junebug_request,
    signature,
    turn_request,
)
from tools.bench.processes import BenchError, Daemon, KleinFloor, Measured, Receiver, get
from tools.bench.stolen import Stolen, Timed, quietest
from tools.servers.process import ROOT
from tools.servers.rabbitmq import RabbitNode

Figures = dict[str, float]
FOLDER = ROOT / "var" / "bench"  # the configuration and the log of each process
REQUESTS = 2000  # different ones, sent in turn


@frozen
class Size:
    """Size of a benchmark: seconds of each load, messages in a queue, rounds.

    :ivar patience: how many times ``seconds`` may be spent to find as many quiet ones, for a latency
    """

    seconds: int
    queued: int
    floor_messages: int
    rounds: int
    patience: int


FULL = Size(seconds=5, queued=5000, floor_messages=4000, rounds=3, patience=3)
QUICK = Size(seconds=1, queued=800, floor_messages=800, rounds=1, patience=2)

RATE = 500.0  # outbound requests a second of the fixed load
MESSAGE_RATE = 200.0  # inbound messages a second of the fixed load


class Bench:
    """The environment of all measures: a broker, a receiver, and the requests."""

    def __init__(self, folder: Path, node: RabbitNode, receiver: Receiver, size: Size) -> None:
        self.folder = folder
        self.node = node
        self.receiver = receiver
        self.size = size
        self._requests = {
            "junebug": [junebug_request(n, f"{receiver.url}/event") for n in range(REQUESTS)],
            "turn": [signature(body) + b"\t" + body for body in map(turn_request, range(REQUESTS))],
        }
        for name, lines in self._requests.items():
            self.requests(name).write_bytes(b"\n".join(lines) + b"\n")

    def requests(self, application: str) -> Path:
        """The file with an application's requests."""
        return self.folder / f"{application}.requests"

    # floors

    def klein(self) -> Figures:
        """The floor of a request."""
        with KleinFloor(self.folder) as floor:
            load.wrk(floor.url, requests=self.requests("junebug"), seconds=1)
            cpu = floor.cpu
            result = load.wrk(floor.url, requests=self.requests("junebug"), seconds=self.size.seconds)[0]
            return _outbound(result, floor.cpu - cpu)

    def klein_at_rate(self) -> Figures:
        """The floor of a request's latency."""
        with KleinFloor(self.folder) as floor:
            load.wrk(floor.url, requests=self.requests("junebug"), seconds=1)
            return self.requests_at_rate(floor, floor.url, "junebug")

    def requests_at_rate(self, process: Measured, url: str, application: str) -> Figures:
        """Requests to ``process`` at the fixed rate."""
        requests, seconds = self.requests(application), self.size.seconds

        def once() -> tuple[list[Timed], float]:
            cpu = process.cpu
            timed = load.at_rate(url, requests, RATE, seconds)
            return timed, (process.cpu - cpu) * seconds / (load.WARM_UP + seconds)

        return self._at_rate(once)

    def _at_rate(self, once: Callable[[], tuple[list[Timed], float]]) -> Figures:
        """Latencies of quiet seconds; ``once`` measures ``seconds``, and has the CPU that it took."""
        size, used = self.size, 0.0
        runs: list[list[Timed]] = []
        with Stolen() as stolen:
            while True:
                timed, cpu = once()
                runs.append(timed)
                used += cpu
                found = quietest(runs, stolen.part, size.seconds)
                if found.quiet or len(runs) == size.patience:
                    break
        count = sum(map(len, runs))
        return (
            _rates(count, size.seconds * len(runs), used)
            | _latencies(found.latencies)
            | {
                "stolen": found.stolen,
                "p99_all": load.percentile([each.latency for run in runs for each in run], 0.99) * 1e3,
            }
        )

    def publish_at_rate(self) -> Figures:
        """The floor of a confirm's latency."""

        def once() -> tuple[list[Timed], float]:
            result = self._floor("publish-at-rate", int(RATE * self.size.seconds), str(RATE))
            return [Timed(*each) for each in result["timed"]], result["cpu"]

        return self._at_rate(once)

    def floor(self, name: str) -> Figures:
        """The floor ``publish``, ``consume`` or ``treq``."""
        result = self._floor(name, self.size.floor_messages)
        return _rates(result["messages"], result["seconds"], result["cpu"])

    def _floor(self, name: str, count: int, *more: str) -> dict[str, Any]:
        transport = load.Transport(self.node, "bench-floor")
        transport.declare("queue")
        transport.purge("queue")
        if name == "consume":
            transport.publish("queue", (inbound_body("0" * 32) for _ in range(count + 1000)))
        arguments = (
            (f"{self.receiver.url}/floor",) if name == "treq" else (str(self.node.port), "bench-floor.queue")
        )
        done = subprocess.run(
            [sys.executable, "-m", "tools.bench.floors", name, *arguments, str(count), *more],
            capture_output=True,
            cwd=ROOT,
            timeout=120,
            check=False,
        )
        transport.purge("queue")
        transport.close()
        if done.returncode:
            raise BenchError(f"the floor {name} failed: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]

    # the daemon

    def outbound_together(self, sides: list[Side]) -> Figures:
        """Requests as fast as several processes answer them, the connections shared among them."""
        cpu = sum(side.daemon.cpu for side in sides)
        results = load.wrk(
            *(side.daemon.url for side in sides),
            requests=self.requests("junebug"),
            seconds=self.size.seconds,
            connections=load.WRK_CONNECTIONS // len(sides),
        )
        used = sum(side.daemon.cpu for side in sides) - cpu
        sides[0].transport.purge("outbound")
        together = {
            "requests": sum(result["requests"] for result in results),
            "seconds": max(result["seconds"] for result in results),
            "p50": max(result["p50"] for result in results),
            "p99": max(result["p99"] for result in results),
        }
        return _outbound(together, used)

    def inbound_together(self, sides: list[Side]) -> Figures:
        """A full queue that several processes consume."""
        bodies = [inbound_body(uuid.uuid4().hex, n) for n in range(self.size.queued)]
        return self.drained([side.daemon for side in sides], sides[0].transport, "inbound", bodies)

    def drained(
        self, daemons: list[Daemon], transport: load.Transport, queue: str, bodies: list[bytes]
    ) -> Figures:
        """Fill a queue while the receiver lets the first ones wait, and measure from when it doesn't."""
        receiver = self.receiver
        get(f"{receiver.url}/hold")
        before = get(f"{receiver.url}/count")
        transport.publish(queue, bodies)
        time.sleep(0.2)
        since, cpu = time.time(), sum(daemon.cpu for daemon in daemons)
        get(f"{receiver.url}/release")
        ended = receiver.wait_for_count(before + len(bodies))
        return _rates(len(bodies), ended - since, sum(daemon.cpu for daemon in daemons) - cpu)

    @contextmanager
    def daemon(self, application: str, cache: str, **options: Any) -> Iterator[Side]:
        """A running daemon with its transport."""
        with Daemon(self.folder, self.node, self.receiver, application, cache, **options) as daemon:
            transport = load.Transport(self.node, daemon.connector)
            try:
                yield Side(self, daemon, transport)
            finally:
                for queue in ("inbound", "event", "outbound"):
                    transport.purge(queue)
                transport.close()


class Side:
    """A daemon under load."""

    def __init__(self, bench: Bench, daemon: Daemon, transport: load.Transport) -> None:
        self.bench = bench
        self.daemon = daemon
        self.transport = transport
        self._ids: list[str] = []

    def warm_up(self) -> None:
        """Do some of each kind of work, so that none is done for the first time while we measure."""
        self.rate(1)
        self.drained("inbound", [inbound_body(uuid.uuid4().hex, n) for n in range(200)])

    def outbound(self) -> Figures:
        """Requests as fast as they are answered."""
        cpu = self.daemon.cpu
        result = self._wrk(self.bench.size.seconds)
        used = self.daemon.cpu - cpu
        self._ids = self.transport.message_ids(min(self.bench.size.queued, result["requests"]))
        return _outbound(result, used)

    def rate(self, seconds: int) -> float:
        """How many requests are answered in a second."""
        result = self._wrk(seconds)
        self.transport.purge("outbound")
        return float(result["requests"] / result["seconds"])

    def outbound_at_rate(self) -> Figures:
        """Requests at a fixed rate."""
        figures = self.bench.requests_at_rate(self.daemon, self.daemon.url, self.daemon.application)
        self.transport.purge("outbound")
        return figures

    def inbound(self) -> Figures:
        """A full queue of messages; then some at a fixed rate, for their latency."""
        return self._consumed(
            "inbound", lambda n: (message_id := uuid.uuid4().hex, inbound_body(message_id, n))
        )

    def events(self) -> Figures:
        """A full queue of events of the messages that ``outbound`` sent; then some at a fixed rate."""
        return self._consumed("event", lambda n: (self._ids[n], event_body(self._ids[n])))

    def _wrk(self, seconds: int) -> dict[str, Any]:
        requests = self.bench.requests(self.daemon.application)
        return load.wrk(self.daemon.url, requests=requests, seconds=seconds)[0]

    def _consumed(self, queue: str, make: Callable[[int], tuple[str, bytes]]) -> Figures:
        count = self.bench.size.queued
        if queue == "event":
            count = min(count, len(self._ids))
        made = [make(n) for n in range(count)]
        figures = self.drained(queue, [body for _, body in made])
        slow = made[: int(MESSAGE_RATE * min(2.0, self.bench.size.seconds))]
        receiver = self.bench.receiver
        before = get(f"{receiver.url}/count")
        get(f"{receiver.url}/log")
        sent = self.transport.publish_at_rate(queue, [body for _, body in slow], MESSAGE_RATE)
        receiver.wait_for_count(before + len(slow))
        came = get(f"{receiver.url}/log")
        return figures | _latencies(
            [came[message_id] - at for (message_id, _), at in zip(slow, sent, strict=True)]
        )

    def drained(self, queue: str, bodies: list[bytes]) -> Figures:
        """See ``Bench.drained``."""
        return self.bench.drained([self.daemon], self.transport, queue, bodies)


def _rates(messages: float, seconds: float, cpu: float) -> Figures:
    return {"count": messages, "rate": messages / seconds, "cpu_us": cpu / messages * 1e6}


def _latencies(seconds: list[float]) -> Figures:
    return {"p50": load.percentile(seconds, 0.5) * 1e3, "p99": load.percentile(seconds, 0.99) * 1e3}


def _outbound(result: dict[str, Any], cpu: float) -> Figures:
    rates = _rates(result["requests"], result["seconds"], cpu)
    return rates | {"p50": result["p50"], "p99": result["p99"]}
