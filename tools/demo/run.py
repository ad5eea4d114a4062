"""The demo, ``make run``: the daemon with a broker, phones and a receiver, on this machine, until Ctrl-C.

Starts a private RabbitMQ node if no broker answers where the configuration says, the daemon, a simulated phone and
a receiver; says what listens where and what to try.  Stops all that it started, and only that; when one of them
ends by itself it says so, stops the others and fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from junebug_turn.errors import ConfigError
from tools.demo.addresses import (
    KANNEL_PHONE_NUMBER,
    PHONE_NUMBER,
    RAPIDPRO_PHONE_NUMBER,
    TURN_PHONE_NUMBER,
    Address,
    Addresses,
    RunError,
)
from tools.demo.receiver import NEWLINE
from tools.demo.secrets import with_secrets
from tools.servers import rabbitmq
from tools.servers.installed import ensure_installed
from tools.servers.process import ROOT, Process, ProcessError, answers, daemon_command, is_free
from tools.servers.rabbitmq import RabbitNode

HEALTH_LIMIT = 60.0  # seconds that the daemon has to be well


class Stopped(Exception):
    """The demo is asked to stop, by Ctrl-C or SIGTERM."""


def say(text: str) -> None:
    """Print a line of this program's own."""
    print(f"run | {text}", flush=True)


class Demo:
    """The processes of the demo, from ``start()`` to ``stop()``.

    :param addresses: where they listen
    :param var: where a private broker has its data
    """

    def __init__(self, addresses: Addresses, var: Path) -> None:
        self._addresses = addresses
        self._var = var
        self._processes: dict[str, Process] = {}
        self._node: RabbitNode | None = None
        self._printing = threading.Lock()

    def start(self) -> None:
        """Start all processes and wait until the daemon is well.

        :raises RunError: something can't run
        """
        for what, (host, port) in self._addresses.listeners:
            if not is_free(port, host):
                raise RunError(f"{host}:{port}, which {what} needs, is taken: is it running already?")
        self._start_broker()
        addresses = self._addresses
        self._start_receiver()
        self._start_phone("phone", addresses.junebug.connector_name, addresses.phone, PHONE_NUMBER)
        if addresses.turn:
            connector = addresses.turn.connector_name
            self._start_phone("turn phone", connector, addresses.turn_phone, TURN_PHONE_NUMBER)
        if addresses.rapidpro:
            connector = addresses.rapidpro.connector_name
            self._start_phone("flow phone", connector, addresses.rapidpro_phone, RAPIDPRO_PHONE_NUMBER)
        if addresses.kannel:
            connector = addresses.kannel.connector_name
            self._start_phone("sms phone", connector, addresses.kannel_phone, KANNEL_PHONE_NUMBER, "sms")
        self._start("daemon", *daemon_command(addresses.config), prefix="daemon | ")
        self._wait_until_healthy()

    def check(self) -> None:
        """Look whether all still run.

        :raises ProcessError: one has ended
        """
        for process in self._processes.values():
            process.check()
        if self._node is not None:
            self._node.check()

    def stop(self) -> None:
        """Stop all that was started: the daemon while it has all that it needs to finish, then the others."""
        daemon = self._processes.pop("daemon", None)
        if daemon is not None:
            daemon.stop()
        for process in self._processes.values():
            process.begin_stop()
        for process in self._processes.values():
            process.stop()
        if self._node is not None:
            self._node.close()

    def instructions(self) -> str:
        """Write what listens where, and the lines to copy."""
        owner = f"started for this run, data in {self._var}" if self._node else "was running already"
        return self._addresses.instructions(owner)

    def _start_broker(self) -> None:
        amqp = self._addresses.amqp
        host, port = amqp.hostname, amqp.port
        if rabbitmq.is_broker(host, port) or amqp.tls:
            say(f"using the broker at {host}:{port}")
            return
        if host not in ("127.0.0.1", "localhost"):
            raise RunError(f"no broker answers at {host}:{port}, and only on this machine one can be started")
        if (amqp.username, amqp.password, amqp.vhost) != ("guest", "guest", "/"):
            raise RunError(f"no broker answers at {host}:{port}; one of our own has only guest, guest and /")
        ensure_installed(rabbitmq.PROGRAM)
        # An installation may have brought up a broker of its own there.
        if not rabbitmq.is_broker(host, port):
            say(f"no broker at {host}:{port}: starting a private one")
            self._node = RabbitNode(self._var / "rabbitmq", port)
            self._node.start()

    def _start_receiver(self) -> None:
        addresses = self._addresses
        turn: tuple[str, ...] = ()
        if addresses.turn:
            # With =, since a token may begin with a dash.
            turn = ("--turn-path", addresses.turn_path, f"--turn-token={addresses.turn.auth_token}")
        self._start(
            "receiver", *_module("tools.demo.receiver"), *_flags(addresses.receiver), "--records", *turn
        )

    def _start_phone(
        self, name: str, connector: str, address: Address, number: str, transport_type: str = "ussd"
    ) -> None:
        self._start(
            name,
            *(*_module("tools.demo.phone"), "--name", name, *_flags(address)),
            *("--amqp-url", self._addresses.amqp_url, "--connector", connector, "--from-addr", number),
            *("--transport-type", transport_type),
            *(("--to-addr", "8864") if transport_type == "sms" else ()),
        )

    def _start(self, name: str, *command: str, prefix: str = "") -> None:
        def show(line: str) -> None:
            # In one piece: the threads of other programs write here too.
            with self._printing:
                sys.stdout.write(f"{prefix}{line}\n".replace(NEWLINE, "\n"))
                sys.stdout.flush()

        self._processes[name] = Process(name, command, on_line=show)

    def _wait_until_healthy(self) -> None:
        def is_healthy() -> bool:
            self.check()
            return answers(self._addresses.health_url)

        self._processes["daemon"].wait_until(is_healthy, "isn't well", HEALTH_LIMIT)


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
    """Parse the command line."""
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
    add(
        "--rapidpro-phone-port",
        type=int,
        default=8025,
        help="where they connect to the phone of the RapidPro channel (%(default)s)",
    )
    add(
        "--kannel-phone-port",
        type=int,
        default=8026,
        help="where they connect to the phone of the Kannel channel (%(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the demo; 0 when it was asked to stop, else 1."""
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
        os.environ.update(with_secrets(options.config, os.environ))
        addresses = Addresses.of(
            options.config,
            options.phone_port,
            options.turn_phone_port,
            options.rapidpro_phone_port,
            options.kannel_phone_port,
        )
        demo = Demo(addresses, Path(options.var))
        demo.start()
        print(demo.instructions(), flush=True)
        _watch(demo)
    except Stopped:
        say("stopping")
    except (RunError, ProcessError, ConfigError, OSError) as error:
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
