"""``make run``: the daemon with everything around it, on this machine, until Ctrl-C.

Starts a private RabbitMQ node if no broker answers where the configuration says, the daemon, a simulated phone and
a receiver; says what listens where and what to try.  Stops all that it started, and only that; when one of them
ends by itself it says so, stops the others and fails.
"""

from __future__ import annotations

import argparse
import json
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
from urllib.parse import quote, urlsplit

from demo import rabbitmq
from demo.guard import Guarded
from demo.rabbitmq import ROOT, NodeError, RabbitNode
from junebug_turn import config
from junebug_turn.config import AmqpOptions, JunebugOptions
from junebug_turn.errors import ConfigError

HEALTH_LIMIT = 60.0  # seconds that the daemon has to be well
PHONE_NUMBER = "+27820000001"


class RunError(Exception):
    """The demo can't go on; the text is for the person at the terminal."""


class Stopped(Exception):
    """The person at the terminal wants an end."""


def say(text: str) -> None:
    """A line of this program's own."""
    print(f"run | {text}", flush=True)


class Demo:
    """All that runs, from ``start()`` to ``stop()``.

    :param options: of the command line
    """

    def __init__(self, options: argparse.Namespace, amqp: AmqpOptions, junebug: JunebugOptions) -> None:
        self._options = options
        self._amqp = amqp
        self._junebug = junebug
        self._phone = ("127.0.0.1", int(options.phone_port))
        self._http = _address(junebug.http_bind, "http_bind")
        self._receiver = _address(urlsplit(junebug.mo_message_url or "").netloc, "mo_message_url")
        self._children: dict[str, Guarded] = {}
        self._pumps: list[threading.Thread] = []
        self._node: RabbitNode | None = None

    def start(self) -> None:
        """Start everything and wait until the daemon is well.

        :raises RunError: something can't run
        """
        for what, (host, port) in (
            ("the daemon (http_bind)", self._http),
            ("the receiver (mo_message_url)", self._receiver),
            ("the phone", self._phone),
        ):
            if not rabbitmq.is_free(port, host):
                raise RunError(f"{host}:{port}, which {what} needs, is taken: is it running already?")
        self._start_broker()
        self._start("receiver", *_module("demo.receiver"), *_flags(*self._receiver))
        self._start(
            "phone",
            *_module("demo.phone"),
            *_flags(*self._phone),
            *("--amqp-url", self._amqp_url(), "--connector", self._junebug.connector_name),
            *("--from-addr", PHONE_NUMBER),
        )
        twistd = str(Path(sys.executable).with_name("twistd"))
        self._start(
            "daemon",
            *(sys.executable, twistd, "-n", "--pidfile=", "junebug-turn", "--config", self._options.config),
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
        api = f"http://{_netloc(self._http)}{self._junebug.base_url_path.rstrip('/')}/messages"
        receiver = f"http://{_netloc(self._receiver)}"
        broker = f"{self._amqp.hostname}:{self._amqp.port}"
        phone = f"{self._phone[0]} {self._phone[1]}"
        owner = f"started for this run, data in {self._options.var}" if self._node else "was running already"
        message = json.dumps({"to": PHONE_NUMBER, "from": "8864", "content": "Hello, phone!"})
        return f"""
  Junebug Message API   {api}
  health                http://{_netloc(self._http)}/health
  receiver              {receiver}  (stands in for RapidPro; prints what it gets)
  phone                 {_netloc(self._phone)}  (a line typed is a message; what is sent to it appears)
  RabbitMQ              {broker}  ({owner})

Try, each in another terminal:

  1. be the phone (type a line, and see it arrive at the receiver):
     telnet {phone}        # or: nc {phone}
  2. send a message to the phone:
     curl -s {api} -d '{message}'
  3. reply to the last message that the phone sent:
     curl -s {api} -d '{{"reply_to": "'$(curl -s {receiver}/last/message_id)'", "content": "Hello back!"}}'

Ctrl-C stops everything.
"""

    def _start_broker(self) -> None:
        host, port = self._amqp.hostname, self._amqp.port
        if rabbitmq.is_broker(host, port) or self._amqp.tls:
            say(f"using the broker at {host}:{port}")
            return
        if host not in ("127.0.0.1", "localhost"):
            raise RunError(f"no broker answers at {host}:{port}, and only on this machine one can be started")
        if (self._amqp.username, self._amqp.password, self._amqp.vhost) != ("guest", "guest", "/"):
            raise RunError(f"no broker answers at {host}:{port}; one of our own has only guest, guest and /")
        rabbitmq.ensure_installed()
        # An installation may have brought up a broker of its own there.
        if not rabbitmq.is_broker(host, port):
            say(f"no broker at {host}:{port}: starting a private one")
            self._node = RabbitNode(Path(self._options.var) / "rabbitmq", port)
            self._node.start()

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
        while not _is_healthy(f"http://{_netloc(self._http)}/health"):
            self.check()
            if time.monotonic() > deadline:
                raise RunError(f"the daemon isn't well after {HEALTH_LIMIT:g} seconds")
            time.sleep(0.2)

    def _amqp_url(self) -> str:
        amqp = self._amqp
        user = f"{quote(amqp.username, safe='')}:{quote(amqp.password, safe='')}"
        scheme = "amqps" if amqp.tls else "amqp"
        return f"{scheme}://{user}@{amqp.hostname}:{amqp.port}/{quote(amqp.vhost, safe='')}"


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


def _address(netloc: str, option: str) -> tuple[str, int]:
    parts = urlsplit(f"//{netloc}")
    try:
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise RunError(f"{option} must have a host and a port for this")


def _netloc(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _module(name: str) -> tuple[str, ...]:
    return sys.executable, "-m", name


def _flags(host: str, port: int) -> tuple[str, ...]:
    return "--host", host, "--port", str(port)


def _settings(path: str) -> tuple[AmqpOptions, JunebugOptions]:
    settings = config.load({"config": path}, os.environ)
    for application in settings.applications:
        if isinstance(application, JunebugOptions):
            return settings.daemon.amqp, application
    raise RunError(f"{path} has no junebug application to show")


def _watch(demo: Demo) -> None:
    while True:
        demo.check()
        time.sleep(0.5)


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--config", default=str(ROOT / "etc" / "junebug-turn.yaml"), help="the daemon's file (%(default)s)")
    add("--var", default=str(ROOT / "var"), help="where a private broker has its data (%(default)s)")
    add("--phone-port", type=int, default=8023, help="where terminals connect (%(default)s)")
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
        demo = Demo(options, *_settings(options.config))
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
