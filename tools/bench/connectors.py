"""Measurement of a daemon with many connectors: its starts, its memory, and the queues at the broker."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tools.bench.processes import Measured
from tools.servers.process import HOST, daemon_command, free_port
from tools.servers.rabbitmq import RabbitNode

_IDLE = 60.0
"""Seconds of processor time at rest that are measured: four rounds in which all queues are declared and counted."""

_QUESTIONS = 0.1
"""Seconds between two questions for /health, whose answer names all consumers: asked all the time, it takes half of the
daemon's start."""


def run(folder: Path, node: RabbitNode, count: int, say: Callable[[str], None]) -> str:
    """Start a daemon with ``count`` connectors twice, first with no queues at the broker; returns the figures."""
    lines = [f"{count} connectors"]
    for name in ("first", "again"):
        say(f"{name} start")
        daemon = _Daemon(folder, node, count)
        try:
            used = f"{daemon.cpu_to_healthy:.1f} s of processor time"
            lines.append(f"{name} start to healthy: {daemon.start_up:.1f} s, {used}")
            if name == "again":
                before, begun = daemon.cpu, time.monotonic()
                time.sleep(_IDLE)
                part = (daemon.cpu - before) / (time.monotonic() - begun)
                lines.append(f"at rest: {daemon.memory / 2**20:.0f} MB, {part:.1%} of a core")
        finally:
            daemon.end(signal.SIGTERM)
            daemon.stop()
    queues = [line for line in node.ctl("list_queues", "name", "--silent").splitlines() if line.strip()]
    lines.append(f"queues at the broker: {len(queues)}")
    return "\n".join(lines)


class _Daemon(Measured):
    """A daemon with many connectors.

    :ivar start_up: seconds from its start until /health was ok
    :ivar cpu_to_healthy: seconds of processor time that it used until then
    """

    def __init__(self, folder: Path, node: RabbitNode, count: int) -> None:
        port = free_port()
        options = {
            "amqp_url": node.url,
            "http_bind": f"{HOST}:{port}",
            "application": "junebug",
            "mo_message_url": f"http://{HOST}:9/",
            "default_from_addr": "8110",
            "applications": [
                {"connector_name": f"many-{number}", "base_url_path": f"/{number}"} for number in range(count)
            ],
        }
        path = folder / f"daemon-{port}.json"  # JSON is YAML
        path.write_text(json.dumps(options), "utf-8")
        begun = time.monotonic()
        super().__init__("daemon", daemon_command(path), log=folder / f"daemon-{port}.log")
        self.wait_for(f"http://{HOST}:{port}/health", every=_QUESTIONS)
        self.start_up = time.monotonic() - begun
        self.cpu_to_healthy = self.cpu
