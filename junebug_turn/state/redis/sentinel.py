"""Endpoint for the Redis that Sentinel names, which is asked for each connection.

txredisapi's own ``Sentinel`` keeps a connection to each sentinel that it makes again for ever, on the global reactor,
and waits 10 seconds where none knows the service.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from txredisapi import RedisFactory
from zope.interface import implementer

from junebug_turn.config import hosts
from junebug_turn.state.redis.address import RedisAddress

Connect = Callable[[str, int], IStreamClientEndpoint]
"""Returns the endpoint for a host and a port."""


STEP_TIMEOUT = 2.0
"""Seconds at most to ask one sentinel, and to connect to the server that it names: both may be on a host that is gone,
and the next may answer."""


class NoPrimary(Exception):
    """No sentinel names the server to write to; the text says why, for each."""


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """Endpoint for the present primary of a service.

    :param endpoint: makes the endpoints of sentinels and servers
    :param timeout: seconds for each sentinel
    :param report: called with the reason when no sentinel names a primary
    """

    def __init__(
        self,
        reactor: Any,
        address: RedisAddress,
        endpoint: Connect,
        timeout: float,
        report: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._endpoint = endpoint
        self._timeout = timeout
        self._report = report
        # The one that answered last is first.
        self._sentinels = deque(address.sentinels)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Ask for the primary and connect to it."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        try:
            host, port = await self._primary()
        except NoPrimary as fault:
            self._report(str(fault))
            raise
        return await self._endpoint(host, port).connect(factory)

    async def _primary(self) -> tuple[str, int]:
        faults = []
        for host, port in tuple(self._sentinels):
            asking = Deferred.fromCoroutine(self._ask(host, port))
            try:
                found = await asking.addTimeout(self._timeout, self._reactor)
            except CancelledError:
                raise
            except Exception as error:
                faults.append(f"Sentinel at {hosts.shown(host, port)}: {error or type(error).__name__}")
            else:
                if found is not None:
                    return found
                faults.append(
                    f"Sentinel at {hosts.shown(host, port)} knows no service {self._address.service}"
                )
            if self._sentinels[0] == (host, port):
                self._sentinels.rotate(-1)
        raise NoPrimary("; ".join(faults))

    async def _ask(self, host: str, port: int) -> tuple[str, int] | None:
        """Ask one sentinel for host and port of the primary; None where it knows none."""
        asking = RedisFactory(
            None,
            None,
            1,
            charset=None,
            username=self._address.sentinel_username,
            password=self._address.sentinel_password,
            convertNumbers=False,
        )
        asking.reconnect = False
        connecting = asking.deferred
        asking.startConnecting(self._endpoint(host, port))
        try:
            sentinel = await connecting
            ask = partial(sentinel.execute_command, "SENTINEL", "GET-MASTER-ADDR-BY-NAME")
            found = await ask(self._address.service)
        finally:
            asking.disconnect().addErrback(lambda _: None)
        return None if found is None else (found[0].decode("ascii"), int(found[1]))
