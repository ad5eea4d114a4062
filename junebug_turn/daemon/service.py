"""The daemon as a service: its parts, and the order in which they listen, start and stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.amqp.broker import Broker
from junebug_turn.connectors.deferred import DeferredMessages
from junebug_turn.daemon.channels.service import ChannelsService
from junebug_turn.daemon.drain import Drain
from junebug_turn.daemon.operators.events import OperatorEvents
from junebug_turn.daemon.operators.pausing import Pausing
from junebug_turn.daemon.operators.service import OperatorsService
from junebug_turn.daemon.outgoing_tls import Expiries
from junebug_turn.daemon.queue_counts import QueueCounts
from junebug_turn.daemon.settings import Settings
from junebug_turn.daemon.traces import Traces
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.errors import ConfigError
from junebug_turn.http.listening import ListenAddress, listen_together, server_endpoint
from junebug_turn.http.server import ApiSite
from junebug_turn.middlewares.base import BaseMiddleware
from junebug_turn.net.tcp import accept_promptly
from junebug_turn.state.journal import Journals
from junebug_turn.state.message_store import MessageStore

CONFIRM_INTERVAL = 0.05
"""Seconds between looks for messages whose outcome is not known, when the daemon stops."""


@define(eq=False, kw_only=True)
class Daemon(Service):
    """All applications of the settings, on one broker connection.

    Its parts are no children of a ``MultiService``, which starts and stops all of them at once: the stores have to
    be there before the broker's consumers, and they and the broker's connection to outlive the deliveries
    (``test_outage.test_stop_lets_deliveries_finish``).

    :ivar stores: connector -> its message store
    :ivar deferred: is returned to its queues when a destination that was down answers
    :ivar sites: the server of each address
    :ivar shared: the addresses at which other processes listen, too
    :ivar binds: the options of the addresses that are no ``http_bind``
    :ivar certificates: their use -> reads their files again, and raises where they can't be used
    :ivar expiries: the option or address of a certificate -> returns the Unix time at which it ends
    :ivar renewals: connector -> has its application use the secrets of options that were read again
    :ivar operator_events: sends events to the operators' URL; None without one
    :ivar health: returns the state of each component, as ``/health`` shows it
    :ivar traces: finds all that is known of a message
    :ivar pausing: pauses connectors, as their stores say
    :ivar operators: behind the operators' page and API, where they have an address
    :ivar channels: follows the store of the channels that are made at run time
    :ivar drain: the time before the listeners close when it stops
    :ivar shutdown_timeout: seconds that what is under way has when the daemon stops
    :ivar ready: whether it listens and all its parts are started
    """

    reactor: Any
    broker: Broker
    deferred: DeferredMessages
    queue_counts: QueueCounts
    pausing: Pausing
    operators: OperatorsService | None = None
    deliverer: Deliverer
    middlewares: Sequence[BaseMiddleware]
    journals: Journals
    stores: Mapping[str, MessageStore]
    sites: Mapping[ListenAddress, ApiSite]
    shared: frozenset[ListenAddress]
    certificates: dict[str, Callable[[], None]]
    expiries: Expiries = field(factory=dict)
    renewals: Mapping[str, Callable[[Any], None]] = field(factory=dict)
    operator_events: OperatorEvents | None = None
    health: Callable[[], Mapping[str, Mapping[str, Any]]]
    drain: Drain
    shutdown_timeout: float
    traces: Traces
    channels: ChannelsService | None = None
    binds: Mapping[ListenAddress, str] = field(factory=dict)
    ready: bool = field(default=False, init=False)
    _ports: list[IListeningPort] = field(factory=list, init=False)
    _starting: Deferred[None] = field(factory=lambda: succeed(None), init=False)

    log = Logger()

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses at which it listens, in the order of ``sites``."""
        return [port.getHost() for port in self._ports]

    def privilegedStartService(self) -> None:
        """Listen, while there still may be the right to take a low port.

        :raises SystemExit: an address can't be had; the process ends with a line that says so
        """
        super().privilegedStartService()
        for address, site in self.sites.items():
            failures: list[Failure] = []
            maybeDeferred(self._listen, address, site).addCallbacks(self._listens, failures.append)
            for failure in failures:
                reason: Any = getattr(failure.value, "socketError", failure.value)
                words = getattr(reason, "strerror", None) or reason
                line = (
                    f"{self.binds.get(address, 'http_bind')}: can't listen on {address.description}: {words}"
                )
                self.log.critical("{line}", line=line)
                raise SystemExit(f"junebug-turn: {line}")

    def _listen(self, address: ListenAddress, site: ApiSite) -> IListeningPort | Deferred[IListeningPort]:
        if address in self.shared:
            return listen_together(self.reactor, address, site)
        endpoint, certificate = server_endpoint(self.reactor, address)
        if certificate is not None:
            self.certificates[address.description] = certificate.renew
            self.expiries[address.short] = lambda: certificate.not_after
        return endpoint.listen(site)

    def _listens(self, port: IListeningPort) -> None:
        accept_promptly(port)
        self._ports.append(port)

    def reload(self) -> None:
        """Read the certificates again, for new connections; a bad certificate leaves its place unchanged."""
        for use, renew in self.certificates.items():
            try:
                renew()
            except Exception as error:
                self.log.error(
                    "the certificates of {use} can't be read again, and stay as they were: {error}",
                    use=use,
                    error=error,
                )
            else:
                self.log.info("read the certificates of {use} again", use=use)

    def renew_secrets(self, read: Callable[[], Settings]) -> None:
        """Read the settings again, and have the applications and the operators' address use their secrets.

        All else waits for a new start.

        Where the settings can't be used, all stays as it was.
        """
        try:
            settings = read()
            if self.operator_events is not None:
                self.operator_events.notifier.use_secrets(settings.daemon.operator_webhook_secret)
            if self.operators is not None:
                self.operators.authenticator.renew(settings.daemon.admin_auth)
            for options in settings.applications:
                if options.connector_name in self.renewals:
                    self.renewals[options.connector_name](options)
            if self.channels is not None and settings.channels is not None:
                self.channels.renew(settings.channels)
        except Exception as error:
            # The lines of a ConfigError hold no value.
            reason = str(error).splitlines()[:1] if isinstance(error, ConfigError) else type(error).__name__
            self.log.error("the secrets can't be read again, and stay as they were: {error}", error=reason)
        else:
            self.log.info("read the secrets of the applications again")

    def startService(self) -> None:
        """Start the stores, then the broker, whose consumers need them."""
        super().startService()
        if self.operator_events is not None:
            # First, since a part that does not start is what they are for.
            self.operator_events.startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda failure: self.log.failure("the start failed", failure=failure))

    async def _start(self) -> None:
        for middleware in self.middlewares:
            await middleware.setup()
        for store in self.stores.values():
            await store.start()
        if self.channels is not None:
            await self.channels.start()
        await self.pausing.start()
        self.broker.startService()
        self.deferred.start()
        self.queue_counts.startService()
        if self.operators is not None:
            self.operators.start()
        self.ready = True
        for address in self.addresses:
            self.log.info("listening on {address}", address=address)

    def obstacle(self) -> str | None:
        """Return the reason why requests can't be served now; None where they can."""
        if not self.running:
            return "stopping"
        if not self.ready:
            return "starting"
        return None if self.broker.takes_messages else "the broker takes no messages"

    def stopService(self) -> Deferred[None]:
        """Drain, stop consuming and listening, let work under way finish within ``shutdown_timeout``, then close."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._starting.cancel()
        if self.ready:
            for site in self.sites.values():
                site.close_connections()
            await self.drain.wait()
        if self.operator_events is not None:
            self.operator_events.stop_looking()
        timeout = self.shutdown_timeout
        self.log.info("stopping: {timeout:g} s at most for what is under way", timeout=timeout)
        self.deferred.stop()
        if self.queue_counts.running:
            self.queue_counts.stopService()
        self.pausing.stop()
        if self.operators is not None:
            self.operators.stop()
        if self.channels is not None:
            self.channels.stop_following()
        consuming = self._all("stop consuming", [lambda: self.broker.stop_consuming(timeout)])
        # A delivery that only waits is safer in its queue.
        self.deliverer.stop_waiting()
        await self._all("stop listening", [port.stopListening for port in self._ports])
        requests = Deferred.fromCoroutine(self._finish_requests())
        requests.addTimeout(timeout, self.reactor).addErrback(self._overdue)
        await consuming
        await requests
        await self._all("close the deliverer", [self.deliverer.close])
        if self.operator_events is not None:
            await self._all("end the operator events", [self.operator_events.stopService])
        await self._all("write the journals", [lambda: Deferred.fromCoroutine(self.journals.write())])
        stores: list[Any] = [*self.stores.values(), *([] if self.channels is None else [self.channels])]
        await self._all("close the stores", [store.stop for store in stores])
        await self._all("end the middlewares", [each.teardown_middleware for each in self.middlewares])
        await self._all("close the broker's connection", [self.broker.stopService])
        self.log.info("stopped")

    async def _finish_requests(self) -> None:
        await self._all("finish requests", [site.drain for site in self.sites.values()])
        # Also the messages whose clients have gone: a repeat has to know whether they were sent.
        while any(self.broker.unconfirmed()):
            await deferLater(self.reactor, CONFIRM_INTERVAL)

    def _all(self, aim: str, calls: Iterable[Callable[[], Any]]) -> Deferred[Any]:
        """Make all calls and wait for them; a failure is logged, and keeps none of the others from its end."""

        def failed(failure: Failure) -> None:
            self.log.failure("could not {aim}", failure=failure, aim=aim)

        return DeferredList([maybeDeferred(call).addErrback(failed) for call in calls])

    def _overdue(self, failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        self.log.warn("requests still under way after {timeout:g} s are cut", timeout=self.shutdown_timeout)
