"""What the servers behind clients' event_urls send, against a daemon in its own process: others don't notice."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event as Flag
from urllib.request import urlopen

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.conftest import pika_connection
from tests.support.attack import LARGE, MEGABYTE, attack
from tests.support.destinations import OK, Bystander, Destination, send_events
from tests.support.hostile import HostileDaemon
from tools.servers.rabbitmq import RabbitNode

SCALE = 10 if LARGE else 1

WAIT = 5.0
"""Seconds that others wait at most.  It was a minute, or for ever; on a quiet machine it is less than 1."""


class Side:
    """A daemon, a bystander at its configured URLs, and a witness of its queues."""

    def __init__(
        self, daemon: HostileDaemon, channel: BlockingChannel, bystander: Bystander, url: str
    ) -> None:
        self.daemon = daemon
        self.channel = channel
        self.bystander = bystander
        self.url = url

    def attack(
        self, *urls: str, memory: int = 150 * MEGABYTE, over: Callable[[], object] = lambda: None
    ) -> float:
        """Have events go to these URLs; the longest time that something for others takes meanwhile.

        :param memory: the most that it may take, in bytes
        :param over: called when all for others is delivered; waits for the end of the attack, or makes it
        """
        # What an attack before this one has left would be a part of it.
        delays = (f"junebug-turn.delay.{delay}" for delay in ("1s", "5s", "30s"))
        for queue in (f"{self.daemon.name}.event", *delays):
            self.channel.queue_purge(queue)
        with attack(self.daemon, memory=memory):
            send_events(self.daemon, self.channel, list(urls))
            longest = self.bystander.longest(self.channel, self.daemon.name)
            over()
        assert self.daemon.health()
        print(f"longest of others: {longest:.3f} s")
        return longest

    def ready(self) -> int:
        """Events that wait in the queue."""
        found = self.channel.queue_declare(f"{self.daemon.name}.event", passive=True)
        return int(found.method.message_count)


@pytest.fixture(scope="module")
def side(rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    name = f"hostile-{uuid.uuid4().hex[:12]}"
    bystander = Bystander()
    connection = pika_connection(rabbitmq)
    channel = connection.channel()
    folder = tmp_path_factory.mktemp("hostile")
    with Destination(bystander.answer) as configured:
        with HostileDaemon(rabbitmq, folder, name, configured.url) as daemon:
            yield Side(daemon, channel, bystander, configured.url)
        assert "goes back to it" not in daemon.log
    for connector in (name, f"{name}-turn"):
        for queue in ("inbound", "event", "outbound", "inbound.parked", "event.parked"):
            channel.queue_delete(f"{connector}.{queue}")
    connection.close()


def many(stack: ExitStack, count: int, answer: Callable[[socket.socket, str, str], None]) -> list[str]:
    """The URLs of so many destinations, each an origin of its own."""
    return [stack.enter_context(Destination(answer)).url for _ in range(count)]


def test_headers_without_end(side: Side) -> None:
    """Headers without end are cut off after 64 KiB: the daemon's memory grows by less than 48 MB (it was 1.4 GB), and
    others wait for nothing."""
    most, line = SCALE * 40 * MEGABYTE, b"X-Header: " + b"x" * 8000 + b"\r\n"
    sent: list[int] = []

    def flood(connection: socket.socket, path: str, id: str) -> None:
        size = 0
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while size < most:
                connection.sendall(line)
                size += len(line)
        finally:
            sent.append(size)

    def all_sent() -> None:
        end = time.monotonic() + 60
        while len(sent) < 5:
            assert time.monotonic() < end
            time.sleep(0.05)

    with ExitStack() as stack:
        assert side.attack(*many(stack, 5, flood), memory=48 * MEGABYTE, over=all_sent) < WAIT
    # What the sockets' buffers took is among it.
    assert max(sent) < most / 2


@pytest.mark.parametrize("status", ["99999999999999999999", "-1", "600"])
def test_a_status_that_is_none(side: Side, status: str) -> None:
    """Events whose destinations answer with a status that is none are put off: none comes back again and again, and
    those of others wait less than 5 s (it was for ever)."""
    answer = f"HTTP/1.1 {status} OK\r\nContent-Length: 0\r\n\r\n".encode()
    with ExitStack() as stack:
        longest = side.attack(*many(stack, 25, lambda connection, path, id: connection.sendall(answer)))
    assert longest < WAIT
    end = time.monotonic() + 30
    while side.ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_thousands_of_statuses(side: Side) -> None:
    """All statuses that there can be make fewer than 70 series of each metric (it was one each)."""
    statuses = iter(range(300, 500))

    def answer(connection: socket.socket, path: str, id: str) -> None:
        connection.sendall(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % next(statuses, 400))

    with Destination(answer) as destination:
        side.attack(*[destination.url] * 200)
        parked = f"{side.daemon.name}.event.parked"
        end = time.monotonic() + 100
        while side.channel.queue_declare(parked, passive=True).method.message_count < 190:
            assert time.monotonic() < end
            time.sleep(0.1)
    with urlopen(f"http://127.0.0.1:{side.daemon.port}/metrics", timeout=20) as page:
        text = page.read().decode()
    series = [line for line in text.splitlines() if line.startswith("junebug_turn_delivery_attempts_total{")]
    assert 30 < len(series) < 70, series


def test_a_client_s_url_that_answers(side: Side) -> None:
    """Beside URLs that hang, an event_url that answers gets its events at once, not from a delay queue."""
    over, seen = Flag(), set()

    def answer(connection: socket.socket, path: str, id: str) -> None:
        seen.add(id)
        connection.sendall(OK)

    def hang(connection: socket.socket, path: str, id: str) -> None:
        over.wait(30)
        connection.close()

    with Destination(answer) as good, ExitStack() as stack:
        for urls, count in (([good.url], 1), ([*many(stack, 20, hang), *[good.url] * 20], 21)):
            send_events(side.daemon, side.channel, urls)
            end = time.monotonic() + 20
            while len(seen) < count:
                assert time.monotonic() < end
                time.sleep(0.05)
        over.set()


def test_many_hosts(side: Side) -> None:
    """Event_urls of many hosts that answer leave less than 75 connections open (it was one for each host, until the
    descriptors were used up), and others wait for less than 5 s.  Half of the hosts are names, half are addresses."""
    reached = set()

    def answer(connection: socket.socket, path: str, id: str) -> None:
        reached.add(connection.getsockname()[0])
        connection.sendall(OK)

    before = side.daemon.descriptors
    with Destination(answer, everywhere=True) as destination:
        for round in range(11 if LARGE else 1):
            numbers = range(1, 101)
            hosts = [f"127.1.{round}.{n}" if n % 2 else f"127-1-{round}-{n}.names.test" for n in numbers]
            urls = [f"http://{host}:{destination.port}/" for host in hosts]
            assert side.attack(*urls) < WAIT
        assert side.daemon.descriptors - before < 75
        end = time.monotonic() + 60
        while not (10 < sum(int(host.rpartition(".")[2]) % 2 for host in tuple(reached)) < len(reached) - 10):
            assert time.monotonic() < end, reached
            time.sleep(0.05)


@pytest.mark.parametrize("how", ["429", "hang"])
def test_many_urls_that_keep_their_places(side: Side, how: str) -> None:
    """Event_urls of many origins that ask for a pause of 5 minutes, or don't answer, hold at most half of the places:
    what is for others waits less than 5 s (it was 70 s and more)."""
    over = Flag()

    def answer(connection: socket.socket, path: str, id: str) -> None:
        if how == "429":
            connection.sendall(
                b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 300\r\nContent-Length: 0\r\n\r\n"
            )
        else:
            over.wait(30)
            connection.close()

    with ExitStack() as stack:
        longest = side.attack(*many(stack, 40 * min(SCALE, 3), answer), over=over.set)
    assert longest < WAIT


def test_a_path_of_somebody_else_s_host(side: Side) -> None:
    """Events for a path that answers 503, at the origin of another channel's configured URL, delay that channel's
    messages by less than 5 s (it was 57 s)."""
    assert side.attack(*[f"{side.url}theirs"] * 12) < WAIT


def test_a_backlog_of_a_client_s_url(side: Side) -> None:
    """Hundreds of events for a client's URL that answers slowly hold up others in their queue for less than 5 s (it was
    as long as they took)."""
    over = Flag()

    def answer(connection: socket.socket, path: str, id: str) -> None:
        over.wait(1)
        connection.sendall(OK)

    with Destination(answer) as slow:
        assert side.attack(*[slow.url] * (500 if LARGE else 200), over=over.set) < WAIT
