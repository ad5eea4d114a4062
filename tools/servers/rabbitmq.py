"""A private RabbitMQ node, for ``make run`` and for the tests.

It has ports, data, a cookie, a configuration and a port mapper (epmd) of its own, listens on this machine
only, and shares nothing with a broker that may run already.  It needs an installed RabbitMQ and nothing else.
"""

from __future__ import annotations

import atexit
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tools.servers.process_guard import Guarded

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]

# Debian's /usr/sbin/rabbitmq-server changes to the user rabbitmq when root calls it, and that user can't
# write to our folders: the scripts behind it come first.
_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/rabbitmq/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
)
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_CONFIGURATION = """\
listeners.tcp.1 = {host}:{port}
disk_free_limit.absolute = 10MB
vm_memory_high_watermark.relative = 0.9
log.file.level = info
log.console = false
"""


class NodeError(Exception):
    """The node can't be found, started or spoken to; the text says why, with the end of the node's log."""


def find_program(name: str) -> str | None:
    """The path of ``rabbitmq-server`` or ``rabbitmqctl``; None where it isn't installed."""
    for folder in _FOLDERS:
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    return shutil.which(name, path=_search_path())


def ensure_installed() -> None:
    """Have RabbitMQ installed where it is missing and that can be done.

    :raises NodeError: it can't; the installer has said on stderr what to do
    """
    if find_program("rabbitmq-server") is None:
        subprocess.run(
            [str(ROOT / "tools" / "servers" / "install-system.sh"), "rabbitmq-server"], check=False
        )
        if find_program("rabbitmq-server") is None:
            raise NodeError("rabbitmq-server is not installed")


def is_broker(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a broker answers there: it opens with a method frame (``connection.start``) on channel 0."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(_PROTOCOL_HEADER)
            return connection.recv(3) == b"\x01\x00\x00"
    except OSError:
        return False


def free_port() -> int:
    """A port that nothing listens on, below the range from which the system takes ports for clients."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        if is_free(port):
            return port
    raise NodeError("no free port between 20000 and 32000")


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


def _search_path() -> str:
    usual = [
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
        "/usr/local/sbin",
        "/usr/local/bin",
        "/opt/homebrew/bin",
    ]
    return os.pathsep.join([os.environ.get("PATH", ""), *usual])


class RabbitNode:
    """A node that lives from ``start()`` to ``stop()``, or to the end of this process, however it ends.

    :param folder: its data; kept over a stop, so that a durable queue is there at the next start.  None makes
        one that goes with the node.
    :param port: for AMQP; None takes a free one
    """

    host = HOST
    username = "guest"
    password = "guest"
    vhost = "/"
    nodename = "junebug-turn@localhost"

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        self._own_folder = folder is None
        self.folder = folder.resolve() if folder else Path(tempfile.mkdtemp(prefix="junebug-turn-rabbitmq-"))
        self.port = port or free_port()
        self._guarded: Guarded | None = None
        self._environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        """The address as ``amqp_url`` has it."""
        return f"amqp://{self.username}:{self.password}@{self.host}:{self.port}/%2F"

    @property
    def status(self) -> int | None:
        """The status with which the node ended by itself; None when it runs, or was stopped."""
        return self._guarded.status if self._guarded else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self, timeout: float = 60.0) -> None:
        """Start the node and wait until it takes AMQP connections.

        :param timeout: seconds
        :raises NodeError: not installed, or not ready in time
        """
        server, epmd = find_program("rabbitmq-server"), self._find_epmd()
        if server is None or epmd is None:
            self._remove_own_folder()
            raise NodeError(
                "rabbitmq-server is not installed: tools/servers/install-system.sh says or does what is needed"
            )
        if not is_free(self.port):
            raise NodeError(f"{self.host}:{self.port} is taken by another program")
        self._environment = self._prepare()
        atexit.register(self.stop)
        with open(self.folder / "log" / "output.log", "wb") as output:
            self._guarded = Guarded(
                [epmd, "-port", self._environment["ERL_EPMD_PORT"], "-address", HOST],
                [server],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self.folder,
            )
        try:
            self._wait_until_ready(timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the node and its port mapper, and wait until they are gone; it may be stopped already."""
        guarded, self._guarded = self._guarded, None
        if guarded is not None:
            guarded.stop()
            atexit.unregister(self.stop)
        self._remove_own_folder()

    def ctl(self, *args: str, timeout: float = 60.0) -> str:
        """Run rabbitmqctl on this node; its output.

        :raises NodeError: it failed; the text has its output
        """
        program = find_program("rabbitmqctl")
        if program is None or self._guarded is None:
            raise NodeError("rabbitmqctl is not installed" if self._guarded else "the node isn't running")
        done = subprocess.run(
            [program, "-q", "-n", self.nodename, *args],
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
            raise NodeError(f"rabbitmqctl {' '.join(args)} ended with status {done.returncode}:\n{output}")
        return output

    def stop_app(self) -> None:
        """Stop the broker within the node: its connections and listeners close, durable things stay."""
        self.ctl("stop_app")

    def start_app(self) -> None:
        """Start the broker within the node again and wait until it takes connections."""
        self.ctl("start_app")
        self._wait_until_ready(30.0)

    def close_connections(self, reason: str = "closed by a test") -> None:
        """Have the broker close every connection that it has."""
        self.ctl("close_all_connections", reason)

    def log_tail(self, lines: int = 30) -> str:
        """The end of what the node wrote, for a person to read."""
        texts = []
        for path in sorted((self.folder / "log").glob("*.log")):
            tail = path.read_text("utf-8", "replace").splitlines()[-lines:]
            texts += [f"--- {path.name}", *tail]
        return "\n".join(texts)

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not is_broker(self.host, self.port):
            if self.status is not None:
                raise NodeError(f"RabbitMQ ended with status {self.status}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise NodeError(f"RabbitMQ isn't ready after {timeout:g} seconds\n{self.log_tail()}")
            time.sleep(0.1)

    def _remove_own_folder(self) -> None:
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _find_epmd(self) -> str | None:
        found = shutil.which("epmd", path=_search_path())
        if found:
            return found
        for pattern in ("/usr/lib/erlang/erts-*/bin/epmd", "/opt/erlang/lib/erlang/erts-*/bin/epmd"):
            for path in sorted(Path("/").glob(pattern[1:])):
                return str(path)
        return None

    def _prepare(self) -> dict[str, str]:
        """Write the node's files.  Its environment is made anew: no setting of the machine leaks in."""
        folder = self.folder
        for name in ("home", "log", "data", "conf.d"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        cookie = folder / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(20), "ascii")
            cookie.chmod(0o400)
        for log in (folder / "log").glob("*.log"):
            log.unlink()
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(host=self.host, port=self.port), "ascii")
        (folder / "advanced.config").write_text("[].\n", "ascii")
        (folder / "enabled_plugins").write_text("[].\n", "ascii")
        local_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        # Erlang's schedulers spin while they wait for work, unless told not to.
        no_spinning = "+sbwt none +sbwtdcpu none +sbwtdio none"
        return {
            "PATH": _search_path(),
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(free_port()),
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


if __name__ == "__main__":
    try:
        ensure_installed()
    except NodeError as error:
        sys.exit(str(error))
