"""A connection to the broker that is made again whenever it is lost, and its users."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from typing import Any, Protocol

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.amqp.channel import describe
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.persistent_channel import Backoff
from junebug_turn.net.endpoints import NameEndpoint
from junebug_turn.net.tls import TlsFiles

CONNECT_TIMEOUT = 10  # seconds, for the connection and the login together
CLOSE_TIMEOUT = 5  # seconds
SPARE_CHANNELS = 1  # beside those of the users: to declare queues, and to count messages


async def connect(
    reactor: Any, options: AmqpOptions, purpose: str, *, trust_root: Any = None
) -> AmqpProtocol:
    """Connect to one host of the broker and log in; ``refusal`` puts the exceptions of this into words.

    :param options: with one host
    :param purpose: shown at the broker, as a part of the connection's name
    :param trust_root: the authorities that may sign the broker's certificate, as ``CertificateOptions`` takes them;
        None: those of the platform
    """
    made: list[AmqpProtocol] = []

    def build() -> AmqpProtocol:
        made.append(
            AmqpProtocol(
                reactor,
                username=options.username,
                password=options.password,
                vhost=options.vhost,
                name=f"junebug-turn {purpose}",
            )
        )
        return made[-1]

    async def log_in() -> AmqpProtocol:
        factory = Factory.forProtocol(build)
        factory.noisy = False
        await _endpoint(reactor, options, trust_root).connect(factory)
        await made[-1].open()
        return made[-1]

    connecting = Deferred.fromCoroutine(log_in())
    try:
        return await connecting.addTimeout(CONNECT_TIMEOUT, reactor)
    except Exception as fault:
        for protocol in made:
            if protocol.transport is not None:
                protocol.abort(describe(fault))
        raise


async def connect_to_any(
    reactor: Any, options: AmqpOptions, purpose: str, *, trust_root: Any = None
) -> AmqpProtocol:
    """Connect to the first of the broker's hosts that answers; the exception is the last one's."""
    *others, last = options.nodes
    for node in others:
        with suppress(Exception):
            return await connect(reactor, node, purpose, trust_root=trust_root)
    return await connect(reactor, last, purpose, trust_root=trust_root)


def refusal(fault: BaseException) -> str:
    """Put into words, for an operator, why there is no connection."""
    return f"no answer within {CONNECT_TIMEOUT} s" if isinstance(fault, TimeoutError) else describe(fault)


def is_login_refusal(why: str) -> bool:
    """Return whether the broker is there, and refused the user or the virtual host."""
    return "ACCESS_REFUSED" in why or "NOT_ALLOWED" in why


def _endpoint(reactor: Any, options: AmqpOptions, trust_root: Any) -> IStreamClientEndpoint:
    endpoint = NameEndpoint(reactor, options.hostname, options.port, timeout=CONNECT_TIMEOUT)
    if not options.tls:
        return endpoint
    # The files are read for each connection: they may have been renewed.
    files = TlsFiles(options.ca_file, options.client_cert_file, options.client_key_file, "amqp.")
    tls = files.load()
    if trust_root is not None:
        tls = evolve(tls, trust_root=trust_root)
    return wrapClientTLS(tls.creator(options.hostname), endpoint)


class User(Protocol):
    """A user of a connection: a publisher or a consumer."""

    async def serve(self, protocol: AmqpProtocol) -> None:
        """Work on ``protocol`` until it is closed; cancelled when it is lost."""


class ReconnectingConnection:
    """One connection to the broker for its users, made again whenever it is lost.

    Twisted's ``ClientService`` has no transition for a connection that is lost while ``prepareConnection`` logs in:
    each refused login would leave an unhandled error (test_a_refused_login).  It also drops the transport at a stop,
    where the broker is owed a connection.close (test_stopping).

    Where there are several hosts, the next one is asked when one is lost or doesn't answer; the delays between
    attempts are for all of them together.

    :ivar protocol: the connection while it is up
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        options: AmqpOptions,
        purpose: str,
        *,
        rng: Callable[[], float],
        trust_root: Any = None,
    ) -> None:
        self._reactor = reactor
        self._nodes = cycle(options.nodes)
        self._node = next(self._nodes)
        self._several = len(options.nodes)
        self._purpose = purpose
        self._rng = rng
        self._trust_root = trust_root
        self._users: list[User] = []
        self._serving: set[Deferred[None]] = set()
        self._running: Deferred[None] | None = None
        self._stopped = False
        self.protocol: AmqpProtocol | None = None

    @property
    def channels_needed(self) -> int:
        """The number of channels for all users at once."""
        return len(self._users) + SPARE_CHANNELS

    @property
    def fault(self) -> str | None:
        """Whether the broker's ``channel_max`` is too small for all users, in words for an operator."""
        needed = self.channels_needed
        if self.protocol is None or self.protocol.channel_max >= needed:
            return None
        return (
            f"{self._purpose} needs {needed} channels on its connection, and the broker allows "
            f"{self.protocol.channel_max}: raise channel_max at the broker"
        )

    @property
    def address(self) -> str | None:
        """Host and port of the connection; None while there is none."""
        return None if self.protocol is None else self._node.address

    def add(self, user: User) -> None:
        """Have ``user`` work on this connection, and on those that follow it."""
        self._users.append(user)
        if self.protocol is not None:
            self._serve(user, self.protocol)

    def remove(self, user: User) -> None:
        """Have ``user`` work on no connection that follows; it ends its work on this one itself."""
        self._users.remove(user)

    def start(self) -> None:
        """Connect, and stay connected."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    async def stop(self) -> None:
        """Close the connection in order and make no other."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            await protocol.disconnect(CLOSE_TIMEOUT)
        self._abandon_serving()

    async def _run(self) -> None:
        delays = Backoff(self._rng)
        failed = 0
        while True:
            lasted = 0.0
            try:
                protocol = await connect(
                    self._reactor, self._node, self._purpose, trust_root=self._trust_root
                )
            except CancelledError:
                raise
            except Exception as fault:
                if self._stopped:
                    # Twisted has an exception of its own for a connecting that was cancelled.
                    return
                self._report(fault)
                self._node = next(self._nodes)
                failed += 1
                if failed < self._several:
                    continue
            else:
                since = self._reactor.seconds()
                self.protocol = protocol
                self.log.info(
                    "Connected to the AMQP broker at {address}, for {purpose}",
                    address=self._node.address,
                    purpose=self._purpose,
                )
                if self.fault is not None:
                    self.log.error("{fault}", fault=self.fault)
                for user in self._users:
                    self._serve(user, protocol)
                await protocol.disconnected.wait()
                self.protocol = None
                self._abandon_serving()
                if self._stopped:
                    # By a user just now: there was nothing to cancel.
                    return
                self.log.warn(
                    "Lost the AMQP broker at {address}, for {purpose}: {why}",
                    address=self._node.address,
                    purpose=self._purpose,
                    why=protocol.ended,
                )
                lasted = self._reactor.seconds() - since
                self._node = next(self._nodes)
            failed = 0
            delay = delays.after(lasted)
            self.log.info(
                "Connecting again to the AMQP broker at {address}, for {purpose}, in {delay:.1f} s",
                address=self._node.address,
                purpose=self._purpose,
                delay=delay,
            )
            await deferLater(self._reactor, delay)

    def _ended(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.log.failure("The connection to the AMQP broker is not made again", failure)

    def _report(self, fault: Exception) -> None:
        why = refusal(fault)
        if is_login_refusal(why):
            self.log.error(
                "The AMQP broker at {address} refused user {username} on virtual host {vhost}: {why}; "
                "check amqp.username, amqp.password and amqp.vhost, and the user's permissions at the broker",
                address=self._node.address,
                username=self._node.username,
                vhost=self._node.vhost,
                why=why,
            )
        else:
            self.log.warn(
                "No AMQP broker at {address}: {why}; is it running, and are amqp.hostname and amqp.port right?",
                address=self._node.address,
                why=why,
            )

    def _serve(self, user: User, protocol: AmqpProtocol) -> None:
        serving = Deferred.fromCoroutine(user.serve(protocol))
        self._serving.add(serving)

        def over(result: Failure | None) -> None:
            self._serving.discard(serving)
            if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
                # A user that failed would be missing while the connection lives: start afresh.
                self.log.failure("Fault on the AMQP connection", result)
                protocol.abort("a fault of our own")

        serving.addBoth(over)

    def _abandon_serving(self) -> None:
        for serving in list(self._serving):
            serving.cancel()
