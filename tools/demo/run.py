"""``make run``: the daemon with everything around it, on this machine, until Ctrl-C.

Starts a private RabbitMQ node if no broker answers where the configuration says, the daemon, a simulated phone and
a receiver; says what listens where and what to try.  Stops all that it started, and only that; when one of them
ends by itself it says so, stops the others and fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from junebug_turn.errors import ConfigError
from tools.demo.places import PHONE_NUMBER, TURN_PHONE_NUMBER, Address, Places, RunError
from tools.servers import rabbitmq
from tools.servers.process_guard import Guarded
from tools.servers.rabbitmq import ROOT, NodeError, RabbitNode

HEALTH_LIMIT = 60.0  # seconds that the daemon has to be well


class Stopped(Exception):
    """The person at the terminal wants an end."""


def say(text: str) -> None:
    """A line of this program's own."""
    print(f"run | {text}", flush=True)


class Demo:
    """All that runs, from ``start()`` to ``stop()``.

    :param places: where it listens
    :param var: where a private broker has its data
    """

    def __init__(self, places: Places, var: Path) -> None:
        self._places = places
        self._var = var
        self._children: dict[str, Guarded] = {}
        self._pumps: list[threading.Thread] = []
        self._node: RabbitNode | None = None

    def start(self) -> None:
        """Start everything and wait until the daemon is well.

        :raises RunError: something can't run
        """
        for what, (host, port) in self._places.listeners:
            if not rabbitmq.is_free(port, host):
                raise RunError(f"{host}:{port}, which {what} needs, is taken: is it running already?")
        self._start_broker()
        places = self._places
        self._start_receiver()
        self._start_phone("phone", places.junebug.connector_name, places.phone, PHONE_NUMBER)
        if places.turn:
            connector = places.turn.connector_name
            self._start_phone("turn phone", connector, places.turn_phone, TURN_PHONE_NUMBER)
        twistd = str(Path(sys.executable).with_name("twistd"))
        self._start(
            "daemon",
            *(sys.executable, twistd, "-n", "--pidfile=", "junebug-turn", "--config", places.config),
            prefix="daemon | ",
        )
        self._wait_until_healthy()

    def check(self) -> None:
        """Look whether all still run.

        :raises RunError: one has ended
        """
        for name, child in self._children.items():
            if child.status is not None:
                raise RunError(f"the {name} ended with status {child.status}; stopping everything")
        if self._node is not None and self._node.status is not None:
            raise RunError(f"RabbitMQ ended with status {self._node.status}\n{self._node.log_tail()}")

    def stop(self) -> None:
        """Stop what was started: the daemon while all that it needs to finish is there, then the rest."""
        daemon = self._children.pop("daemon", None)
        if daemon is not None:
            daemon.stop()
        for child in self._children.values():
            child.begin_stop()
        for child in self._children.values():
            child.process.wait()
        if self._node is not None:
            self._node.stop()
        for pump in self._pumps:
            pump.join(1)

    def instructions(self) -> str:
        """What listens where, and the lines to copy."""
        owner = f"started for this run, data in {self._var}" if self._node else "was running already"
        return self._places.instructions(owner)

    def _start_broker(self) -> None:
        amqp = self._places.amqp
        host, port = amqp.hostname, amqp.port
        if rabbitmq.is_broker(host, port) or amqp.tls:
            say(f"using the broker at {host}:{port}")
            return
        if host not in ("127.0.0.1", "localhost"):
            raise RunError(f"no broker answers at {host}:{port}, and only on this machine one can be started")
        if (amqp.username, amqp.password, amqp.vhost) != ("guest", "guest", "/"):
            raise RunError(f"no broker answers at {host}:{port}; one of our own has only guest, guest and /")
        rabbitmq.ensure_installed()
        # An installation may have brought up a broker of its own there.
        if not rabbitmq.is_broker(host, port):
            say(f"no broker at {host}:{port}: starting a private one")
            self._node = RabbitNode(self._var / "rabbitmq", port)
            self._node.start()

    def _start_receiver(self) -> None:
        places = self._places
        turn: tuple[str, ...] = ()
        if places.turn:
            # With =, since a token may begin with a dash.
            turn = ("--turn-path", places.turn_path, f"--turn-token={places.turn.auth_token}")
        self._start("receiver", *_module("tools.demo.receiver"), *_flags(places.receiver), *turn)

    def _start_phone(self, name: str, connector: str, address: Address, number: str) -> None:
        self._start(
            name,
            *(*_module("tools.demo.phone"), "--name", name, *_flags(address)),
            *("--amqp-url", self._places.amqp_url, "--connector", connector, "--from-addr", number),
        )

    def _start(self, name: str, *command: str, prefix: str = "") -> None:
        # A pipe makes Python hold back what it prints.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        child = Guarded(
            list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
        )
        assert child.process.stdout is not None
        pump = threading.Thread(target=_pump, args=(child.process.stdout, prefix), daemon=True)
        pump.start()
        self._children[name] = child
        self._pumps.append(pump)

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + HEALTH_LIMIT
        while not _is_healthy(self._places.health_url):
            self.check()
            if time.monotonic() > deadline:
                raise RunError(f"the daemon isn't well after {HEALTH_LIMIT:g} seconds")
            time.sleep(0.2)


def _pump(source: IO[bytes], prefix: str) -> None:
    for line in source:
        sys.stdout.write(prefix + line.decode("utf-8", "replace"))
        sys.stdout.flush()


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _module(name: str) -> tuple[str, ...]:
    return sys.executable, "-m", name


def _flags(address: Address) -> tuple[str, ...]:
    host, port = address
    return "--host", host, "--port", str(port)


def _watch(demo: Demo) -> None:
    while True:
        demo.check()
        time.sleep(0.5)


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.run", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--config", default=str(ROOT / "etc" / "junebug-turn.yaml"), help="the daemon's file (%(default)s)")
    add("--var", default=str(ROOT / "var"), help="where a private broker has its data (%(default)s)")
    add("--phone-port", type=int, default=8023, help="where terminals connect (%(default)s)")
    add(
        "--turn-phone-port",
        type=int,
        default=8024,
        help="where they connect to the phone of the Turn channel (%(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the demo; 0 when it was told to stop, else 1."""
    options = arguments(argv)

    def stop(*_: object) -> None:
        # One is enough: a second Ctrl-C must not break off the stopping.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    demo: Demo | None = None
    status = 0
    try:
        places = Places.of(options.config, options.phone_port, options.turn_phone_port)
        demo = Demo(places, Path(options.var))
        demo.start()
        print(demo.instructions(), flush=True)
        _watch(demo)
    except Stopped:
        say("stopping")
    except (RunError, NodeError, ConfigError) as error:
        say(str(error))
        status = 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if demo is not None:
            demo.stop()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
