"""The processes of the benchmark, with the processor time and the memory that they use.

Tested by tests/tools/bench/test_receiver.py, and whole by ``make bench-quick``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tools.bench.messages import SECRET
from tools.servers import rabbitmq
from tools.servers.installed import ensure_installed
from tools.servers.process import HOST, Process, daemon_command, free_port
from tools.servers.rabbitmq import RabbitNode

_TICKS = os.sysconf("SC_CLK_TCK")
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2**30  # bytes


class BenchError(Exception):
    """The benchmark can't go on; the text says why."""


class NoWrk(BenchError):
    """wrk is not installed and can't be."""


@contextmanager
def broker() -> Iterator[RabbitNode]:
    """Run a private node, with its files in memory where there is room.

    A disk that others use too stands still for tenths of a second at times, and all confirms with it.
    """
    ensure_installed(rabbitmq.PROGRAM)
    with ExitStack() as stack:
        folder = None
        if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        yield stack.enter_context(RabbitNode(folder))


def get(url: str) -> Any:
    """GET the JSON at ``url``."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


class Measured(Process):
    """A process with its processor time and memory, as the kernel counts them."""

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def memory(self) -> int:
        """Bytes of its memory that are resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BenchError("the kernel does not tell the memory of a process")


class Receiver(Measured):
    """The cheap receiver, ``tools.bench.receiver``."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "tools.bench.receiver", str(port)]
        super().__init__("receiver", command, log=folder / "receiver.log")
        self.url = f"http://{HOST}:{port}"
        self.wait_for(f"{self.url}/count")

    def wait_for_count(self, count: int, limit: float = 120.0) -> float:
        """Wait until so many have come; returns ``time.time()``."""
        deadline = time.monotonic() + limit
        while get(f"{self.url}/count") < count:
            if time.monotonic() > deadline:
                raise BenchError(f"only {get(f'{self.url}/count')} of {count} deliveries came")
            time.sleep(0.02)
        return time.time()


class KleinFloor(Measured):
    """The floor of a request, ``tools.bench.floors klein``."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "tools.bench.floors", "klein", str(port)]
        super().__init__("floor", command, log=folder / "klein.log")
        self.url = f"http://{HOST}:{port}/messages"
        self.wait_for(self.url)


class Daemon(Measured):
    """The installed daemon with one application, under twistd.

    :ivar start_up: seconds from its start until /health was ok
    """

    def __init__(
        self,
        folder: Path,
        node: RabbitNode,
        receiver: Receiver,
        application: str,
        cache: str,
        cache_config: dict[str, Any] | None = None,
        connector: str | None = None,
    ) -> None:
        port = free_port()
        self.application = application
        self.connector = connector or f"bench-{application}"
        self.url = f"http://{HOST}:{port}/messages"
        options: dict[str, Any] = {
            "application": application,
            "amqp_url": node.url,
            "http_bind": f"{HOST}:{port}",
            "connector_name": self.connector,
            # When the machine stands still, a client with a fixed rate has a connection for each request that waits.
            "limits": {"max_connections": 10_000, "max_connections_per_client": 10_000},
        }
        if application == "junebug":
            options |= {
                "mo_message_url": f"{receiver.url}/inbound",
                "mo_message_url_auth_token": "bench",
                "state_cache_class": cache,
                "state_cache_config": cache_config or {},
            }
        else:
            options |= {
                "default_from_addr": "8110",
                "auth_token": "bench",
                "turn_hmac_secret": SECRET,
                "turn_api_url": receiver.url,
                "message_cache_class": cache,
                "message_cache_config": cache_config or {},
            }
        path = folder / f"daemon-{port}.json"  # JSON is YAML
        path.write_text(json.dumps(options), "utf-8")
        begun = time.monotonic()
        super().__init__("daemon", daemon_command(path), log=folder / f"daemon-{port}.log")
        self.wait_for(f"http://{HOST}:{port}/health")
        self.start_up = time.monotonic() - begun
