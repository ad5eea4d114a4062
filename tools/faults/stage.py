"""The daemon between a broker, a destination and a load, with what can be done to each of them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from pika.exceptions import ChannelClosedByBroker

from tools.bench.processes import Measured
from tools.faults.ledger import Account, Row
from tools.faults.load import CLIENT_TIMEOUT, Client, Sender, Transport, connect
from tools.faults.receiver import Receiver
from tools.servers.rabbitmq import HOST, RabbitNode, free_port

CONCURRENCY = 20
"""The daemon's ``worker_concurrency``: as many messages of a queue it may hold."""

CLIENTS = 4
DELAYS = ("30s", "5m", "30m", "2h")
_BASE = "/channels/faults"


class FaultsError(Exception):
    """The suite can't go on; the text says why."""


class Daemon(Measured):
    """The daemon under twistd, in a process of its own."""

    def __init__(self, folder: Path, config: Path, port: int) -> None:
        twistd = str(Path(sys.executable).with_name("twistd"))
        super().__init__(
            *(sys.executable, twistd, "-n", "--pidfile=", "junebug-turn", "--config", str(config)),
            log=folder / "daemon.log",
        )
        self.url = f"http://{HOST}:{port}"

    def wait_until_healthy(self) -> None:
        """Wait until it consumes its queues.

        :raises BenchError: it doesn't
        """
        self.wait_for(f"{self.url}/health")

    @property
    def ended(self) -> bool:
        """Whether it doesn't run any more."""
        return self._guarded.status is not None

    def end(self, how: signal.Signals) -> None:
        """End it by a signal, and wait until it is gone."""
        os.kill(self.pid, how)
        self._guarded.process.wait()


class Stage:
    """Everything, from ``with`` on; the same daemon for one load after the other.

    :param folder: for its configuration, log and cache
    :param node: a running broker; who calls has it
    :param connector: the name of the queues
    """

    def __init__(self, folder: Path, node: RabbitNode, connector: str) -> None:
        self.node = node
        self.connector = connector
        self.receiver = Receiver(self._arrived)
        self.port = free_port()
        self._folder = folder
        self._config = folder / "faults.json"  # JSON is YAML
        self._stack = ExitStack()
        self._daemon: Daemon | None = None
        self.message_ids: deque[str] = deque(maxlen=1000)
        self.load: Load | None = None

    @property
    def daemon(self) -> Daemon:
        """The daemon that was started last."""
        if self._daemon is None:
            raise FaultsError("the daemon was not started")
        return self._daemon

    def __enter__(self) -> Self:
        with self._stack as stack:
            stack.enter_context(self.receiver)
            self._config.write_text(json.dumps(self._options()), "utf-8")
            self.start_daemon()
            self.daemon.wait_until_healthy()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.load is not None:
            self.load.stop()
        if self._daemon is not None:
            self._daemon.__exit__()
        self._stack.close()

    def start_daemon(self) -> None:
        """Start the daemon, for the first time or again, without waiting for it."""
        self._daemon = Daemon(self._folder, self._config, self.port)

    def _options(self) -> dict[str, Any]:
        return {
            "application": "junebug",
            "amqp_url": self.node.url,
            "http_bind": f"{HOST}:{self.port}",
            "connector_name": self.connector,
            "base_url_path": _BASE,
            "mo_message_url": f"{self.receiver.url}/inbound",
            # Only what the cache doesn't know goes there: nothing, as it is in a file.
            "default_event_url": f"{self.receiver.url}/unknown",
            "state_cache_class": "sqlite",
            "state_cache_config": {"path": str(self._folder / "cache.sqlite")},
            "worker_concurrency": CONCURRENCY,
            "mo_message_url_timeout": 1,
            "event_url_timeout": 1,
            "request_timeout": 10,
            "max_retries": 2,
            "retry_delay_base": 0,
            "shutdown_timeout": 5,
        }

    def _arrived(self, path: str, name: str) -> None:
        if self.load is not None:
            self.load.arrived(path.strip("/"), name)

    def begin(self) -> Load:
        """Start a load."""
        self.load = load = Load(self)
        return load

    def new_client(self, account: Account) -> Client:
        """A client of the daemon's API."""
        return Client(account, self.port, f"{_BASE}/messages", f"{self.receiver.url}/event", self.message_ids)

    def new_transport(self, account: Account) -> Transport:
        """The other side of the daemon's queues."""
        return Transport(account, self.node, self.connector, self.message_ids)

    def delete_queue(self, account: Account) -> None:
        """Delete the queue of one kind of message; the broker drops what is in it."""
        connection = connect(self.node)
        channel = connection.channel()
        # The broker's count is without those that the daemon holds.
        held = 0 if account.kind == "outbound" else CONCURRENCY

        def delete() -> int:
            return int(channel.queue_delete(f"{self.connector}.{account.kind}").method.message_count) + held

        account.delete(delete)
        connection.close()

    def take(self, *queues: str) -> list[Any]:
        """Empty queues of the connector; the JSON of what was in them, nothing where there is no such queue."""
        connection = connect(self.node)
        bodies = []
        for queue in queues:
            channel = connection.channel()
            with suppress(ChannelClosedByBroker):
                while True:
                    method, _, body = channel.basic_get(f"{self.connector}.{queue}", auto_ack=True)
                    if method is None:
                        break
                    bodies.append(json.loads(body))
        connection.close()
        return bodies

    def delete_queues(self) -> None:
        """Delete all queues of the connector."""
        connection = connect(self.node)
        channel = connection.channel()
        channel.queue_delete(f"{self.connector}.outbound")
        for kind in ("inbound", "event"):
            for suffix in ("", ".parked", *(f".retry.{delay}" for delay in DELAYS)):
                channel.queue_delete(f"{self.connector}.{kind}{suffix}")
        connection.close()


class Load:
    """A load that runs until ``finish``, and its accounts.

    :ivar answers: how often the clients got each status; 0 is no answer
    :ivar unknown_events: how many events came for whose message no ``event_url`` was known
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.accounts = {kind: Account(kind) for kind in ("outbound", "inbound", "event")}
        self.answers: Counter[int] = Counter()
        self.unknown_events = 0
        self._clients = [stage.new_client(self.accounts["outbound"]) for _ in range(CLIENTS)]
        transports = [stage.new_transport(self.accounts[kind]) for kind in ("inbound", "event")]
        self._senders: list[Sender] = [*self._clients, *transports]
        for sender in self._senders:
            sender.start()

    def arrived(self, path: str, name: str) -> None:
        """The destination has got something."""
        if path == "unknown":
            self.unknown_events += 1
        self.accounts["inbound" if path == "inbound" else "event"].arrive(name)

    def stop(self) -> None:
        """Send no more."""
        for sender in self._senders:
            sender.stop()

    def finish(self, fault: str, limit: float) -> list[Row]:
        """Send no more, wait until everything is somewhere, and count.

        :param limit: seconds; what is nowhere by then is lost
        :raises FaultsError: a sender doesn't end
        """
        self.stop()
        for sender in self._senders:
            sender.join(CLIENT_TIMEOUT + 10)
            if sender.is_alive():
                raise FaultsError(f"the load of {sender.account.kind} messages hangs")
        for client in self._clients:
            self.answers += client.answers
        self._stage.daemon.wait_until_healthy()
        outbound = self.accounts["outbound"]
        # Each accepted one must be there already.
        for body in self._stage.take("outbound"):
            outbound.arrive(body["content"])
        deadline = time.monotonic() + limit
        coming = [self.accounts["inbound"], self.accounts["event"]]
        while True:
            _wait(lambda: not any(each.missing_and_not_deleted() for each in coming), 1.0)
            self._look_aside()
            if not any(each.missing_and_not_deleted() for each in coming) or time.monotonic() > deadline:
                break
        return [account.row(fault) for account in self.accounts.values()]

    def _look_aside(self) -> None:
        """Take what is delayed or parked out of the daemon's reach, and note it."""
        for kind, key in (("inbound", "message_id"), ("event", "event_id")):
            account = self.accounts[kind]
            account.parked |= {body[key] for body in self._stage.take(f"{kind}.parked")}
            delayed = self._stage.take(*(f"{kind}.retry.{delay}" for delay in DELAYS))
            account.delayed |= {body[key] for body in delayed}

    @property
    def faults(self) -> list[str]:
        """What went wrong besides losses, in words."""
        found = []
        strange = {status: count for status, count in self.answers.items() if status not in (0, 201, 503)}
        if strange:
            found.append(f"requests got the answers {strange}")
        if self.unknown_events:
            found.append(f"{self.unknown_events} events came whose event_url was not known any more")
        return found


def _wait(condition: Callable[[], bool], limit: float) -> None:
    deadline = time.monotonic() + limit
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
