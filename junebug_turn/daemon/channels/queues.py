"""The queues of the channels, for ``/health``: counted at the broker, or read from its management API.

Tested by tests/integration/test_channel_health.py.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from urllib.parse import quote

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.http.admin.channels.health import QueueReport
from junebug_turn.state.channel_store import CHANNELS, ROUTERS, Definitions

KINDS = ("inbound", "outbound", "event")

AT_ONCE = 20
"""Requests to the management API that are made at once."""

TIMEOUT = 10.0
"""Seconds for all of them together."""


def queue_names(definitions: Definitions, configured: Iterable[str]) -> list[str]:
    """Return the names of the queues of all channels and destinations."""
    names = [key.id for key in sorted(definitions) if key.kind not in (CHANNELS, ROUTERS)]
    channels = [key.id for key in sorted(definitions) if key.kind == CHANNELS]
    return [f"{name}.{kind}" for name in (*channels, *configured, *names) for kind in KINDS]


class _Body(Protocol):
    """The body of an answer.  Twisted's ``readBody`` warns of the transport that its own ``Agent`` gives it."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)


class CountedQueues:
    """Report by the latest count of the broker's queues.

    :param latest: queue -> messages that wait in it, consumers that it has
    """

    def __init__(
        self, names: Callable[[], list[str]], latest: Callable[[], Mapping[str, tuple[int, int]]]
    ) -> None:
        self._names = names
        self._latest = latest

    async def report(self) -> QueueReport:
        """Return the queues that were counted; stuck are those with messages that nobody consumes."""
        counts = self._latest()
        return QueueReport(
            [
                {
                    "name": name,
                    "messages": counts[name][0],
                    "stuck": counts[name][0] > 0 and not counts[name][1],
                }
                for name in self._names()
                if name in counts
            ]
        )


class ManagedQueues:
    """Report by the broker's management API.

    :param interface: its ``host:port``
    """

    def __init__(
        self, reactor: Any, interface: str, amqp: AmqpOptions, names: Callable[[], list[str]]
    ) -> None:
        self._reactor = reactor
        self._names = names
        self._url = f"http://{interface}/api/queues/{quote(amqp.vhost, safe='')}/"
        login = b64encode(f"{amqp.username}:{amqp.password}".encode())
        self._headers = Headers({b"Authorization": [b"Basic " + login]})
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._agent = Agent(reactor, connectTimeout=TIMEOUT, pool=pool)
        self._semaphore = DeferredSemaphore(AT_ONCE)

    async def report(self) -> QueueReport:
        """Return the queues; stuck are those with messages of which none is acknowledged."""
        asked = [self._semaphore.run(Deferred.fromCoroutine, self._ask(name)) for name in self._names()]
        try:
            found = await gatherResults(asked, consumeErrors=True).addTimeout(TIMEOUT, self._reactor)
        except Exception as fault:
            error = getattr(fault, "subFailure", None)
            reason = type(fault if error is None else error.value).__name__
            return QueueReport([], True, f"the management API can't be asked: {reason}")
        return QueueReport([queue for queue in cast(list[Any], found) if queue is not None], True)

    async def _ask(self, name: str) -> dict[str, Any] | None:
        url = (self._url + quote(name, safe="")).encode("ascii")
        response: Any = await self._agent.request(b"GET", url, self._headers)
        body = _Body()
        response.deliverBody(body)
        queue = json.loads(await body.whole)
        if not isinstance(queue, dict) or not isinstance(queue.get("messages"), int):
            return None
        found = {"name": name, "messages": queue["messages"], "stuck": queue["messages"] > 0}
        stats = queue.get("message_stats")
        details = stats.get("ack_details") if isinstance(stats, dict) else None
        if isinstance(details, dict):
            found["rate"] = details.get("rate", 0)
            found["stuck"] = found["stuck"] and not found["rate"]
        return found
