"""A private Redis server, for the tests and the benchmarks.

It has a port and a folder of its own, listens on this machine only, and shares nothing with a Redis that may run
already.  It needs an installed Redis and nothing else.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from tools.servers.installed import command
from tools.servers.process import ProcessError, Server

PROGRAM = "redis-server"


class _Answering(Server):
    """A program that speaks Redis' protocol."""

    def cli(self, *args: str, stdin: str | None = None) -> str:
        """Run redis-cli on this server; its output.

        :raises ProcessError: it failed
        """
        done = subprocess.run(
            [*command("redis-cli", self.folder), "-h", self.host, "-p", str(self.port), *args],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise ProcessError(f"redis-cli ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1.0) as connection:
                connection.settimeout(1.0)
                connection.sendall(b"PING\r\n")
                # With a password: -NOAUTH.  While it reads its data: -LOADING.
                return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
        except OSError:
            return False


class RedisServer(_Answering):
    """A server whose data stay over ``stop()`` and ``start()``, and go with ``close()``.

    :param options: more of Redis' configuration, as ``{"requirepass": "secret"}``
    """

    def __init__(self, **options: str) -> None:
        super().__init__("redis")
        self.socket = self.folder / "redis.sock"
        self._options = options

    @property
    def url(self) -> str:
        """The address as the option ``url`` has it."""
        return f"redis://{self.host}:{self.port}/0"

    def start(self, timeout: float = 20.0) -> None:
        """Start the server and wait until it answers; the data of a stopped one are there again.

        :param timeout: seconds
        :raises ProcessError: not installed, or not ready in time
        """
        program = command(PROGRAM, self.folder)
        options = {
            "bind": self.host,
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "daemonize": "no",
            # All that was answered is there after a kill.
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
        } | self._options
        config = self.folder / "redis.conf"
        config.write_text("".join(f'{name} "{value}"\n' for name, value in options.items()), "utf-8")
        self._run([*program, str(config)], limit=timeout)

    @property
    def version(self) -> str:
        """The version of Redis, as ``7.0.15``."""
        lines = self.cli("info", "server").splitlines()
        return next(line.partition(":")[2] for line in lines if line.startswith("redis_version:"))


class Sentinel(_Answering):
    """A sentinel, which watches one server and has a replica follow it when that is gone.

    :param primary: the server that is there at first
    :param options: more of its configuration, as ``{"requirepass": "secret"}``
    """

    service = "mymaster"

    def __init__(self, primary: RedisServer, quorum: int = 2, **options: str) -> None:
        super().__init__("redis-sentinel")
        self._primary = primary
        self._quorum = quorum
        self._options = options

    def start(self, timeout: float = 20.0) -> None:
        """Start the sentinel and wait until it answers.

        :param timeout: seconds
        :raises ProcessError: not installed, or not ready in time
        """
        lines = [
            f"bind {self.host}",
            f"port {self.port}",
            f'dir "{self.folder}"',
            f"sentinel monitor {self.service} {self._primary.host} {self._primary.port} {self._quorum}",
            f"sentinel down-after-milliseconds {self.service} 1000",
            f"sentinel failover-timeout {self.service} 5000",
            *(f"{name} {value}" for name, value in self._options.items()),
        ]
        config = self.folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        self._run([*command(PROGRAM, self.folder), str(config), "--sentinel"], limit=timeout)


def commands(url: str, lines: Sequence[Sequence[str]], timeout: float = 30.0) -> list[Any]:
    """Run commands on any Redis, which needs no redis-cli; their results: numbers, texts, and None for neither.

    :param url: ``redis://:password@host:port/database``
    :param timeout: seconds for each step
    :raises OSError: it can't be reached
    :raises ValueError: it refuses a command; with its reason
    """
    parts = urlsplit(url)
    first: list[Sequence[str]] = [("SELECT", parts.path.strip("/") or "0")]
    if parts.password:
        first.insert(0, ("AUTH", *filter(None, (unquote(parts.username or ""), unquote(parts.password)))))
    with (
        socket.create_connection((parts.hostname or "", parts.port or 6379), timeout) as connection,
        connection.makefile("rb") as answers,
    ):
        results: list[Any] = []
        for line in (*first, *lines):
            words = [word.encode() for word in line]
            packed = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
            connection.sendall(b"*%d\r\n%b" % (len(words), packed))
            kind, text = answers.read(1), answers.readline().strip().decode()
            if kind == b"-":
                raise ValueError(f"{line[0]}: {text}")
            if kind == b":":
                results.append(int(text))
            elif kind == b"$":
                results.append(answers.read(int(text) + 2)[:-2].decode() if int(text) >= 0 else None)
            else:
                results.append(text)
        return results[len(first) :]
