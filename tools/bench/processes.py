"""The processes that are measured, and what the kernel says of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tools.bench.messages import SECRET
from tools.servers.process_guard import Guarded
from tools.servers.rabbitmq import HOST, ROOT, RabbitNode, ensure_installed, free_port

_TICKS = os.sysconf("SC_CLK_TCK")
START_LIMIT = 30.0  # seconds
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2**30  # bytes


class BenchError(Exception):
    """The benchmark can't go on; the text says why."""


class NoWrk(BenchError):
    """There is no wrk, and none can be had."""


@contextmanager
def broker() -> Iterator[RabbitNode]:
    """A private node, with its files in memory where there is room.

    A disk that others use too stands still for tenths of a second at times, and all confirms with it.
    """
    ensure_installed()
    with ExitStack() as stack:
        folder = None
        if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        yield stack.enter_context(RabbitNode(folder))


def get(url: str) -> Any:
    """The JSON at ``url``."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


class Measured:
    """A process that lives as long as the ``with`` block, and never longer than this one."""

    def __init__(self, *command: str, log: Path) -> None:
        self._log = log
        with open(log, "wb") as output:
            self._guarded = Guarded(list(command), stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        self.pid = self._find()

    def _find(self) -> int:
        guard = self._guarded.process.pid
        children = Path(f"/proc/{guard}/task/{guard}/children")
        deadline = time.monotonic() + START_LIMIT
        while not (pids := children.read_text().split()):
            self.check()
            if time.monotonic() > deadline:
                raise BenchError("a process does not start")
            time.sleep(0.005)
        return int(pids[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._guarded.stop()

    def check(self) -> None:
        """Look whether it still runs.

        :raises BenchError: it has ended; the text has the end of what it wrote
        """
        if self._guarded.status is not None:
            raise BenchError(f"a process ended:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")

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

    def wait_for(self, url: str) -> None:
        """Wait until ``url`` answers 200."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except urllib.error.HTTPError as error:
                if error.code in (404, 405):
                    return
            except OSError:
                pass
            self.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{url} does not answer 200:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.01)


class Receiver(Measured):
    """``tools.bench.receiver``."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        super().__init__(sys.executable, "-m", "tools.bench.receiver", str(port), log=folder / "receiver.log")
        self.url = f"http://{HOST}:{port}"
        self.wait_for(f"{self.url}/count")

    def wait_until(self, count: int, limit: float = 120.0) -> float:
        """Wait until so many have come; returns ``time.time()``."""
        deadline = time.monotonic() + limit
        while get(f"{self.url}/count") < count:
            if time.monotonic() > deadline:
                raise BenchError(f"only {get(f'{self.url}/count')} of {count} deliveries came")
            time.sleep(0.02)
        return time.time()


class KleinFloor(Measured):
    """``tools.bench.floors klein``."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        super().__init__(
            sys.executable, "-m", "tools.bench.floors", "klein", str(port), log=folder / "klein.log"
        )
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
        twistd = str(Path(sys.executable).with_name("twistd"))
        begun = time.monotonic()
        super().__init__(
            *(sys.executable, twistd, "-n", "--pidfile=", "junebug-turn", "--config", str(path)),
            log=folder / f"daemon-{port}.log",
        )
        self.wait_for(f"http://{HOST}:{port}/health")
        self.start_up = time.monotonic() - begun
