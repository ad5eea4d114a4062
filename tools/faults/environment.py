"""Environment of the fault suite: the daemon between a broker, a destination and a load.

Tested by tests/integration/test_faults.py.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from pika.exceptions import ChannelClosedByBroker

from tools.faults.counts import Counts, Row
from tools.faults.destination import Destination
from tools.faults.load import CLIENT_TIMEOUT, Client, Sender, Transport, connect
from tools.servers.process import HOST, Process, daemon_command, free_port
from tools.servers.rabbitmq import RabbitNode

CONCURRENCY = 20
"""The daemon's ``worker_concurrency``: as many messages of a queue it may hold."""

MAX_MESSAGE_SIZE = 20000
"""The broker's limit, in bytes."""

BROKER_SETTINGS = f"max_message_size = {MAX_MESSAGE_SIZE}\n"
"""The lines that the broker's configuration needs."""

CLIENTS = 4
RECOVERY = 12.0  # seconds until what waited for a destination has come, with a margin
DELAYS = ("delay.1s", "delay.5s", "delay.30s", "delay.5m", "delay.30m", "delay.2h", "deferred")
_BASE = "/channels/faults"


class FaultsError(Exception):
    """The suite can't go on; the text says why."""


class Environment:
    """All processes, from ``with`` on; the same daemon for one load after the other.

    :param folder: for its configuration, log and cache
    :param node: a running broker with ``BROKER_SETTINGS``, which the caller stops
    :param connector: the name of the queues
    """

    def __init__(self, folder: Path, node: RabbitNode, connector: str) -> None:
        self.node = node
        self.connector = connector
        self.destination = Destination(self._arrived)
        self.port = free_port()
        self._folder = folder
        self._config = folder / "faults.json"  # JSON is YAML
        self._stack = ExitStack()
        self._daemon: Process | None = None
        self.message_ids: deque[str] = deque(maxlen=1000)
        self.load: Load | None = None

    @property
    def daemon(self) -> Process:
        """The daemon that was started last."""
        if self._daemon is None:
            raise FaultsError("the daemon was not started")
        return self._daemon

    def __enter__(self) -> Self:
        with self._stack as stack:
            stack.enter_context(self.destination)
            self._config.write_text(json.dumps(self._options()), "utf-8")
            self.start_daemon()
            self.wait_until_healthy()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.load is not None:
            self.load.stop()
        if self._daemon is not None:
            self._daemon.stop()
        self._stack.close()

    def start_daemon(self) -> None:
        """Start the daemon, for the first time or again, without waiting for it."""
        self._daemon = Process("daemon", daemon_command(self._config), log=self._folder / "daemon.log")

    def wait_until_healthy(self) -> None:
        """Wait until the daemon consumes its queues.

        :raises ProcessError: it doesn't
        """
        self.daemon.wait_for(f"http://{HOST}:{self.port}/health")

    def _options(self) -> dict[str, Any]:
        return {
            "application": "junebug",
            "amqp_url": self.node.url,
            "http_bind": f"{HOST}:{self.port}",
            "connector_name": self.connector,
            "base_url_path": _BASE,
            "mo_message_url": f"{self.destination.url}/inbound",
            # Only events of messages that the cache doesn't know go there: none, as it is in a file.
            "default_event_url": f"{self.destination.url}/unknown",
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

    def new_client(self, counts: Counts) -> Client:
        """A client of the daemon's API."""
        return Client(
            counts, self.port, f"{_BASE}/messages", f"{self.destination.url}/event", self.message_ids
        )

    def new_transport(self, counts: Counts) -> Transport:
        """A transport at the daemon's queues."""
        return Transport(counts, self.node, self.connector, self.message_ids)

    def delete_queue(self, counts: Counts) -> None:
        """Delete the queue of one kind of message; the broker drops its messages."""
        connection = connect(self.node)
        channel = connection.channel()
        # The broker's count is without those that the daemon holds.
        held = 0 if counts.kind == "outbound" else CONCURRENCY

        def delete() -> int:
            return int(channel.queue_delete(f"{self.connector}.{counts.kind}").method.message_count) + held

        counts.delete(delete)
        connection.close()

    def take(self, *queues: str) -> list[Any]:
        """Empty queues of the connector; the JSON of their messages.  A queue that is not there has none."""
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

    def take_delayed(self, kind: str) -> list[Any]:
        """Take the messages out of the delay queues that would go back to a queue of the connector; their JSON."""
        connection = connect(self.node)
        bodies = []
        for delay in DELAYS:
            channel = connection.channel()
            with suppress(ChannelClosedByBroker):
                while True:
                    method, _, body = channel.basic_get(f"junebug-turn.{delay}")
                    if method is None:
                        break
                    # Those of other connectors go back into their places at the end.
                    if method.routing_key == f"{self.connector}.{kind}":
                        channel.basic_ack(method.delivery_tag)
                        bodies.append(json.loads(body))
        connection.close()
        return bodies

    def delete_queues(self) -> None:
        """Delete all queues of the connector."""
        connection = connect(self.node)
        channel = connection.channel()
        channel.queue_delete(f"{self.connector}.outbound")
        for kind in ("inbound", "event"):
            for suffix in ("", ".parked"):
                channel.queue_delete(f"{self.connector}.{kind}{suffix}")
        connection.close()


class Load:
    """A load that runs until ``finish()``, and its counts.

    :ivar answers: how often the clients got each status; 0 is no answer
    :ivar exact: whether no message may be in the outbound queue but those answered with 201
    :ivar unknown_events: how many events came for whose message no ``event_url`` was known
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.counts = {kind: Counts(kind) for kind in ("outbound", "inbound", "event")}
        self.answers: Counter[int] = Counter()
        self.unknown_events = 0
        self.exact = False
        self._clients = [environment.new_client(self.counts["outbound"]) for _ in range(CLIENTS)]
        transports = [environment.new_transport(self.counts[kind]) for kind in ("inbound", "event")]
        self._senders: list[Sender] = [*self._clients, *transports]
        for sender in self._senders:
            sender.start()

    def arrived(self, path: str, name: str) -> None:
        """Note that the destination has answered a request with 200, or will refuse a message."""
        if path == "refused":
            self.counts["inbound"].refused.add(name)
            return
        if path == "unknown":
            self.unknown_events += 1
        self.counts["inbound" if path == "inbound" else "event"].arrive(name)

    def stop(self) -> None:
        """Send no more."""
        for sender in self._senders:
            sender.stop()

    def finish(self, fault: str, limit: float) -> list[Row]:
        """Send no more, wait until each message is somewhere, and count.

        :param limit: seconds; a message that is nowhere by then is lost
        :raises FaultsError: a sender doesn't end
        """
        self.stop()
        for sender in self._senders:
            sender.join(CLIENT_TIMEOUT + 10)
            if sender.is_alive():
                raise FaultsError(f"the load of {sender.counts.kind} messages hangs")
        for client in self._clients:
            self.answers += client.answers
        self._environment.wait_until_healthy()
        outbound = self.counts["outbound"]
        # Each accepted one must be there already.
        for body in self._environment.take("outbound"):
            outbound.arrive(body["content"])
        deadline = time.monotonic() + limit
        coming = [self.counts["inbound"], self.counts["event"]]
        patience = RECOVERY
        while True:
            _wait(lambda: not any(each.missing_and_not_deleted() for each in coming), patience)
            patience = 1.0
            self._look_aside()
            if not any(each.missing_and_not_deleted() for each in coming) or time.monotonic() > deadline:
                break
        return [counts.row(fault) for counts in self.counts.values()]

    def _look_aside(self) -> None:
        """Take the delayed and parked messages out of the daemon's reach, and note them."""
        for kind, key in (("inbound", "message_id"), ("event", "event_id")):
            counts = self.counts[kind]
            counts.parked |= {body[key] for body in self._environment.take(f"{kind}.parked")}
            delayed = self._environment.take_delayed(kind)
            counts.delayed |= {body[key] for body in delayed}

    @property
    def faults(self) -> list[str]:
        """Faults other than losses, in words."""
        found = []
        strange = {status: count for status, count in self.answers.items() if status not in (0, 201, 503)}
        if strange:
            found.append(f"requests got the answers {strange}")
        if self.exact and (unaccepted := self.counts["outbound"].unaccepted()):
            found.append(f"{unaccepted} messages were answered with a fault and are in their queue")
        if self.unknown_events:
            found.append(f"{self.unknown_events} events came whose event_url was not known any more")
        return found


def _wait(condition: Callable[[], bool], limit: float) -> None:
    deadline = time.monotonic() + limit
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
