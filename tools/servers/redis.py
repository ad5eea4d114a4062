"""A private Redis server, for the tests and the benchmarks.

It has a port and a folder of its own, listens on this machine only, and shares nothing with a Redis that may run
already.  It needs an installed Redis and nothing else.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tools.servers.process_guard import Guarded
from tools.servers.rabbitmq import HOST, ROOT, NodeError, free_port, is_free

_PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/usr/sbin"]
)


def ensure_installed() -> None:
    """Have Redis installed where it is missing and that can be done.

    :raises NodeError: it can't; the installer has said on stderr what to do
    """
    if shutil.which("redis-server", path=_PATH) is None:
        subprocess.run([str(ROOT / "tools" / "servers" / "install-system.sh"), "redis-server"], check=False)
        if shutil.which("redis-server", path=_PATH) is None:
            raise NodeError("redis-server is not installed")


class RedisServer:
    """A server that lives from ``start()`` to ``stop()``, or to the end of this process, however it ends.

    :param options: more of Redis' configuration, as ``{"requirepass": "secret"}``
    """

    host = HOST

    def __init__(self, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="junebug-turn-redis-"))
        self.port = free_port()
        self.socket = self.folder / "redis.sock"
        self._options = options
        self._guarded: Guarded | None = None

    @property
    def url(self) -> str:
        """The address as the option ``url`` has it."""
        return f"redis://{self.host}:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self, timeout: float = 20.0) -> None:
        """Start the server and wait until it answers; what was saved at a stop is there again.

        :raises NodeError: not installed, or not ready in time
        """
        program = shutil.which("redis-server", path=_PATH)
        if program is None:
            raise NodeError(
                "redis-server is not installed: tools/servers/install-system.sh says or does what is needed"
            )
        if not is_free(self.port):
            raise NodeError(f"{self.host}:{self.port} is taken by another program")
        options = {
            "bind": self.host,
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "logfile": str(self.folder / "redis.log"),
            "daemonize": "no",
            # Everything that was answered is there after a kill.
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
        } | self._options
        config = self.folder / "redis.conf"
        config.write_text("".join(f'{name} "{value}"\n' for name, value in options.items()), "utf-8")
        atexit.register(self.close)
        with open(self.folder / "output.log", "ab") as output:
            self._guarded = Guarded(
                [program, str(config)], stdout=output, stderr=subprocess.STDOUT, cwd=self.folder
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._guarded.status is not None or time.monotonic() > deadline:
                log = self._log()
                self.stop()
                raise NodeError(f"Redis did not start\n{log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server and wait until it is gone; its data stays."""
        guarded, self._guarded = self._guarded, None
        if guarded is not None:
            guarded.stop()

    def close(self) -> None:
        """Stop the server for good: its data goes too."""
        self.stop()
        atexit.unregister(self.close)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cli(self, *args: str, stdin: str | None = None) -> str:
        """The output of redis-cli on this server.

        :raises NodeError: it failed
        """
        program = shutil.which("redis-cli", path=_PATH)
        if program is None:
            raise NodeError("redis-cli is not installed")
        done = subprocess.run(
            [program, "-h", self.host, "-p", str(self.port), *args],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise NodeError(f"redis-cli ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1.0) as connection:
                connection.settimeout(1.0)
                connection.sendall(b"PING\r\n")
                # With a password: -NOAUTH.  While it reads its data: -LOADING.
                return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
        except OSError:
            return False

    def _log(self) -> str:
        path = self.folder / "redis.log"
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        return "\n".join(lines[-20:])


if __name__ == "__main__":
    try:
        ensure_installed()
    except NodeError as error:
        sys.exit(str(error))
