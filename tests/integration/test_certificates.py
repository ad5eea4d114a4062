"""Certificates of a trusted authority that are not for the host: nothing is sent to a server that has one."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from txamqp.client import Closed

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.reconnecting import connect, refusal
from junebug_turn.cli.connectivity import reach
from junebug_turn.daemon.settings import load
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import DeliveryExhausted
from junebug_turn.net.tls import TlsFiles
from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.pool import RedisPool
from tests.support.certificates import Authority
from tests.support.configurations import FLAGS
from tests.support.daemon import reactor, until
from tests.support.delivery_harness import SUBJECT
from tests.support.names import resolving

HOST = "localhost"


def _names(*names: x509.GeneralName) -> tuple[x509.ExtensionType, ...]:
    return (x509.SubjectAlternativeName(names),)


def _unreadable(value: bytes) -> tuple[x509.ExtensionType, ...]:
    return (x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, value),)


ALTERNATIVE_NAMES: dict[str, tuple[x509.ExtensionType, ...]] = {
    "none": (),
    "empty": _unreadable(b"\x30\x00"),
    "e-mail": _names(x509.RFC822Name("root@localhost")),
    "URI": _names(x509.UniformResourceIdentifier("https://localhost/")),
    "any name": _names(x509.DNSName("*")),
    "wildcard for all of a domain": _names(x509.DNSName("*.localhost")),
    "wildcard within": _names(x509.DNSName("lo*lh.st")),
    "an address": _names(x509.IPAddress(ip_address("127.0.0.1"))),
    "another name": _names(x509.DNSName("example.org")),
    "a name that is not ASCII": _unreadable(b"\x30\x06\x82\x04l\xf6st"),
    "an address of five bytes": _unreadable(b"\x30\x07\x87\x05\x7f\x00\x00\x01\x01"),
}


class TlsServer:
    """Server that takes TLS connections one after the other, in a thread.

    :ivar asked: the server names that clients sent
    :ivar ended: connections that have ended, in the handshake or after it
    :ivar received: the first bytes within the encryption, of all connections
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert_file, key_file)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._context.sni_callback = lambda connection, name, context: self.asked.append(name)
        self.asked: list[str | None] = []
        self.ended = 0
        self.received = b""
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            plain.settimeout(5)
            try:
                with plain, self._context.wrap_socket(plain, server_side=True) as secure:
                    self.received += secure.recv(65536)
            except OSError:
                pass
            self.ended += 1

    def close(self) -> None:
        # Closing alone would not wake the thread.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(params=list(ALTERNATIVE_NAMES))
def server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[TlsServer]:
    """A server with such a certificate; its common name is the host's, which counts for nothing."""
    server = TlsServer(*authority.issue_with(HOST, *ALTERNATIVE_NAMES[request.param]))
    yield server
    server.close()


@pytest_twisted.ensureDeferred
async def test_https(server: TlsServer, authority: Authority) -> None:
    """A destination whose certificate has no name for the host gets no byte of HTTP; it is a TLS fault."""
    deliverer = Deliverer(reactor, tls_policy=TlsFiles(str(authority.ca_file), None, None).load())
    destination = Destination.of(f"https://{HOST}:{server.port}/", None)
    try:
        with pytest.raises(DeliveryExhausted) as caught:
            await deliverer.deliver(destination, b"{}", timeout=9, policy=RetryPolicy(0, 0, 0), **SUBJECT)
    finally:
        await deliverer.close()
    assert caught.value.reason == "tls"
    await until(lambda: server.ended == 1, "the end of the connection")
    assert server.received == b""


@pytest_twisted.ensureDeferred
async def test_amqps(server: TlsServer, authority: Authority) -> None:
    """A broker whose certificate has no name for the host gets no byte of AMQP."""
    options = AmqpOptions(hostname=HOST, port=server.port, tls=True, ca_file=str(authority.ca_file))
    with pytest.raises(Closed) as caught:
        await connect(reactor, options, "testing")
    assert refusal(caught.value) == f"the server's certificate is not for {HOST}"
    await until(lambda: server.ended == 1, "the end of the connection")
    assert server.received == b""


@pytest_twisted.ensureDeferred
async def test_redis(server: TlsServer, authority: Authority) -> None:
    """Such a server is sent nothing as the Redis of a rediss:// URL."""
    trust_root = TlsFiles(str(authority.ca_file), None, None).load().trust_root
    pool = RedisPool(
        reactor, RedisAddress.from_url(f"rediss://{HOST}:{server.port}/"), 1, trust_root=trust_root
    )
    pool.start()
    try:
        await until(lambda: server.ended >= 1, "the end of the connection")
        assert pool.pool == []
        assert server.received == b""
    finally:
        await pool.stop()


@pytest_twisted.ensureDeferred
async def test_check_config(server: TlsServer, authority: Authority) -> None:
    """check-config names the certificate for a broker and a destination that have such a one."""
    flags = {
        **FLAGS,
        "mo_message_url": f"https://{HOST}:{server.port}/",
        "ca_file": str(authority.ca_file),
        "amqp_hostname": HOST,
        "amqp_port": str(server.port),
        "amqp_tls": "true",
        "amqp_ca_file": str(authority.ca_file),
    }
    reached = await reach(reactor, load(flags, {}), 10)
    assert {each.what for each in reached} == {"broker", "mo_message_url"}
    assert {each.fault for each in reached} == {f"the server's certificate is not for {HOST}"}
    await until(lambda: server.ended == 2, "the end of both connections")
    assert server.received == b""


@pytest.mark.parametrize(
    ("host", "name", "asked"),
    [
        ("localhost", x509.DNSName("localhost"), "localhost"),
        ("LOCALHOST", x509.DNSName("localhost"), "localhost"),
        ("www.example.org", x509.DNSName("*.example.org"), "www.example.org"),
        ("rapidpro_web", x509.DNSName("rapidpro_web"), "rapidpro_web"),
        ("b\xfccher.example", x509.DNSName("xn--bcher-kva.example"), "xn--bcher-kva.example"),
        ("127.0.0.1", x509.IPAddress(ip_address("127.0.0.1")), None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_certificate_for_the_host(
    authority: Authority, host: str, name: x509.GeneralName, asked: str | None
) -> None:
    """A certificate for the host is taken, whether that is a name or an address; only a name is sent by SNI."""
    server = TlsServer(*authority.issue_with("server", *_names(name)))
    tls = TlsFiles(str(authority.ca_file), None, None).load()
    deliverer = Deliverer(reactor, tls_policy=tls)
    try:
        with resolving(**{asked or host: "127.0.0.1"}), pytest.raises(DeliveryExhausted):
            await deliverer.deliver(
                Destination.of(f"https://{host}:{server.port}/", None),
                b"{}",
                timeout=4,
                policy=RetryPolicy(0, 0, 0),
                **SUBJECT,
            )
        assert server.received.startswith(b"POST / HTTP/1.1\r\n")
        assert server.asked == [asked]
    finally:
        await deliverer.close()
        server.close()
