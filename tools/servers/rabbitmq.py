"""A private RabbitMQ node, for ``make run``, the tests, the benchmark and the fault suite.

It has ports, data, a cookie, a configuration and a port mapper (epmd) of its own, listens on this machine
only, and shares nothing with a broker that may run already.  It needs an installed RabbitMQ and nothing else.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from pathlib import Path

from tools.servers.installed import command, find_files, find_program, in_system, required, search_path
from tools.servers.process import HOST, ProcessError, Server, free_port

PROGRAM = "rabbitmq-server"
SETTINGS = "SERVERS_RABBITMQ_SETTINGS"
"""The environment variable with further lines for the rabbitmq.conf of every node."""

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_CONFIGURATION = """\
listeners.tcp.1 = {host}:{port}
disk_free_limit.absolute = 10MB
vm_memory_high_watermark.relative = 0.9
log.file = false
log.console = true
log.console.level = info
"""


def is_broker(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a broker answers there: it opens with a method frame (``connection.start``) on channel 0."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(_PROTOCOL_HEADER)
            return connection.recv(3) == b"\x01\x00\x00"
    except OSError:
        return False


class RabbitNode(Server):
    """A node; a durable queue in its folder is there at the next start.

    :param folder: its data; None makes one that goes with the node
    :param port: for AMQP; None takes a free one
    :param settings: further lines for its rabbitmq.conf
    :param cluster: a running node that it joins when it starts for the first time, and whose port mapper it uses
    """

    username = "guest"
    password = "guest"
    vhost = "/"
    nodename = "junebug-turn@localhost"

    def __init__(
        self,
        folder: Path | None = None,
        port: int | None = None,
        settings: str = "",
        cluster: RabbitNode | None = None,
    ) -> None:
        super().__init__("rabbitmq", folder, port)
        self._settings = settings
        self._cluster = cluster
        self.port_mapper: int = cluster.port_mapper if cluster else free_port()
        if cluster is not None:
            self.nodename = f"junebug-turn-{self.port}@localhost"
        self._environment: dict[str, str] = {}

    @property
    def version(self) -> tuple[int, ...]:
        """The version of RabbitMQ, as ``(3, 10, 8)``."""
        return tuple(int(number) for number in self.ctl("version").strip().split("."))

    @property
    def url(self) -> str:
        """The address as ``amqp_url`` has it."""
        return f"amqp://{self.username}:{self.password}@{self.host}:{self.port}/%2F"

    def start(self, timeout: float = 60.0) -> None:
        """Start the node and wait until it takes AMQP connections.

        :param timeout: seconds
        :raises ProcessError: not installed, or not ready in time
        """
        server = command(PROGRAM, self.folder)
        epmd = in_system(_find_epmd(), self.folder)
        joined = (self.folder / "data").exists()
        self._environment = self._prepare()
        port_mapper = [*epmd, "-port", self._environment["ERL_EPMD_PORT"], "-address", HOST]
        commands = [server] if self._cluster else [port_mapper, server]
        self._run(*commands, limit=timeout, env=self._environment)
        if self._cluster is not None and not joined:
            self.ctl("stop_app")
            self.ctl("join_cluster", self._cluster.nodename)
            self.start_app()

    def answers(self) -> bool:
        return is_broker(self.host, self.port)

    def ctl(self, *args: str, timeout: float = 60.0) -> str:
        """Run rabbitmqctl on this node; its output.

        :raises ProcessError: it failed; the text has its output
        """
        if self._process is None:
            raise ProcessError("the node isn't running")
        done = subprocess.run(
            [*command("rabbitmqctl", self.folder), "-q", "-n", self.nodename, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self.folder,
            timeout=timeout,
            check=False,
        )
        output = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            raise ProcessError(f"rabbitmqctl {' '.join(args)} ended with status {done.returncode}:\n{output}")
        return output

    def stop_app(self) -> None:
        """Stop the broker within the node: its connections and listeners close, its durable queues stay."""
        self.ctl("stop_app")

    def start_app(self) -> None:
        """Start the broker within the node again and wait until it takes connections."""
        self.ctl("start_app")
        self.wait_until_ready(30.0)

    def close_connections(self, reason: str = "closed by a test") -> None:
        """Have the broker close every connection that it has."""
        self.ctl("close_all_connections", reason)

    def _prepare(self) -> dict[str, str]:
        """Write the node's files.  Its environment is made anew: no setting of the machine leaks in."""
        folder = self.folder
        for name in ("home", "log", "data", "conf.d"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        cookie = folder / "home" / ".erlang.cookie"
        if not cookie.exists():
            secret = secrets.token_hex(20)
            if self._cluster is not None:
                secret = (self._cluster.folder / "home" / ".erlang.cookie").read_text("ascii")
            cookie.touch(mode=0o600)
            cookie.write_text(secret, "ascii")
            cookie.chmod(0o400)
        configuration = [_CONFIGURATION.format(host=self.host, port=self.port), self._settings]
        configuration.append(os.environ.get(SETTINGS, ""))
        (folder / "rabbitmq.conf").write_text("\n".join(configuration) + "\n", "ascii")
        (folder / "advanced.config").write_text("[].\n", "ascii")
        (folder / "enabled_plugins").write_text("[].\n", "ascii")
        local_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        # Erlang's schedulers spin while they wait for work, unless these flags forbid it.
        no_spinning = "+sbwt none +sbwtdcpu none +sbwtdio none"
        return {
            "PATH": search_path(),
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.port_mapper),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP": str(folder / "log" / "erl_crash.dump"),
            "RABBITMQ_NODENAME": self.nodename,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{local_only} {no_spinning}",
            "RABBITMQ_CTL_ERL_ARGS": local_only,
        }


def _find_epmd() -> str:
    patterns = ("usr/lib/erlang/erts-*/bin/epmd", "opt/erlang/lib/erlang/erts-*/bin/epmd")
    found = [find_program("epmd"), *reversed(find_files(*patterns))]
    return next(filter(None, found), None) or required("epmd")
