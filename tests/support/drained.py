"""Daemons as processes, which drain when they are stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from junebug_turn.http.admin.probes import Readiness
from tests.support.commands import TWISTD, Commands, wait_for
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode


class Process:
    """A daemon that is ready; its output is in the file ``output``."""

    def __init__(
        self, commands: Commands, output: Path, node: RabbitNode, connector: str, port: int, **environ: str
    ) -> None:
        self.output = output
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = commands.start(
            *TWISTD,
            APPLICATION="junebug",
            CONNECTOR_NAME=connector,
            HTTP_BIND=f"127.0.0.1:{self.port}",
            MO_MESSAGE_URL="http://127.0.0.1:9/",
            DEFAULT_FROM_ADDR="8110",
            AMQP_HOSTNAME=node.host,
            AMQP_PORT=str(node.port),
            AMQP_USERNAME=node.username,
            AMQP_PASSWORD=node.password,
            **environ,
        )
        self.wait_ready(200)

    def wait_ready(self, status: int) -> None:
        """Wait until its readiness probe answers so."""
        wait_for(self.url + Readiness.path, self.process, self.output, status)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)


Start = Callable[..., Process]


@contextmanager
def processes(folder: Path, node: RabbitNode, connector: str) -> Iterator[Start]:
    """A function that starts daemons, with a port, if it matters, and further variables; they are killed at the end."""
    commands = Commands(folder)
    started: list[Process] = []

    def start(port: int = 0, **environ: str) -> Process:
        started.append(Process(commands, folder / "output", node, connector, port, **environ))
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            # One that drains would not end by SIGTERM.
            each.process.kill()
        commands.stop()
