"""The files of outgoing TLS; deliveries over HTTPS with a private authority."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.ssl import AcceptableCiphers, Certificate, CertificateOptions, KeyPair

from junebug_turn.daemon.build import make_daemon
from junebug_turn.daemon.settings import load
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import ConfigError, DeliveryExhausted
from junebug_turn.net.addresses import ALL_HOSTS
from junebug_turn.net.tls import TlsFiles
from tests.support.certificates import Authority
from tests.support.configurations import FLAGS, TURN
from tests.support.delivery_harness import SUBJECT
from tools.servers.receiver import Receiver

reactor: Any = _reactor
POLICY = RetryPolicy(0, 0, 0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest_twisted.async_yield_fixture
async def receiver(authority: Authority) -> AsyncIterator[Receiver]:
    """An HTTPS server that only talks to clients with a certificate of the authority."""
    server = Receiver(reactor, tls=authority.server("127.0.0.1", ask_clients=True))
    server.start()
    yield server
    await server.stop()


async def deliver(deliverer: Deliverer, url: str, **options: Any) -> None:
    destination = Destination.of(url, None, **options)
    await deliverer.deliver(destination, b"{}", timeout=5, policy=POLICY, **SUBJECT)


def fault(ca_file: object, client_cert_file: object, client_key_file: object) -> str:
    files = [None if path is None else str(path) for path in (ca_file, client_cert_file, client_key_file)]
    with pytest.raises(ConfigError) as caught:
        TlsFiles(*files, "amqp.").load()
    (line,) = caught.value.lines
    return line


def test_files_that_can_t_be_used(authority: Authority, tmp_path: Path) -> None:
    """A file that is missing, empty, or doesn't fit is told with its option."""
    cert_file, key_file = authority.issue("client")
    other_cert, _ = authority.issue("other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert fault(tmp_path / "no.pem", None, None).startswith("amqp.ca_file: can't read")
    assert fault(empty, None, None).startswith("amqp.ca_file: ")
    assert fault(key_file, None, None).startswith("amqp.ca_file: ")
    assert fault(None, None, key_file).startswith("amqp.client_key_file: needs")
    assert fault(None, cert_file, None).startswith("amqp.client_cert_file: ")
    assert fault(None, cert_file, empty).startswith("amqp.client_key_file: ")
    assert "don't belong together" in fault(None, other_cert, key_file)


def test_key_and_certificate_in_one_file(authority: Authority, tmp_path: Path) -> None:
    """The key may stand in the certificate's file, and so may the chain."""
    cert_file, key_file = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(key_file.read_bytes() + cert_file.read_bytes() + authority.ca_file.read_bytes())
    own = dict(TlsFiles(None, str(both), None).load().own)
    assert len(own["extraCertChain"]) == 1


def test_the_start_ends_with_files_that_can_t_be_used(tmp_path: Path) -> None:
    """The daemon doesn't start with files that can't be used, and names all of them."""
    missing = str(tmp_path / "no.pem")
    settings = load({**FLAGS, "ca_file": missing, "amqp_ca_file": missing}, {})
    with pytest.raises(ConfigError) as caught:
        make_daemon(reactor, settings)
    assert [line.partition(":")[0] for line in caught.value.lines] == ["ca_file", "amqp.ca_file"]


def test_urls_that_only_destinations_refuse() -> None:
    """A destination whose host can't be one is an error line; an empty turn_api_url is none at all."""
    settings = load({**FLAGS, "mo_message_url": "http://a..b/"}, {})
    with pytest.raises(ConfigError) as caught:
        make_daemon(reactor, settings)
    (line,) = caught.value.lines
    assert "the URL can't be used" in line
    assert make_daemon(reactor, load({**TURN, "turn_api_url": ""}, {}))


def test_amqp_url_keeps_the_files() -> None:
    """amqp_url says where the broker is; the files of amqp stay."""
    flags = {**FLAGS, "amqp_url": "amqps://rabbit", "amqp_ca_file": "/ca.pem", "amqp_port": "1"}
    amqp = load(flags, {}).daemon.amqp
    assert (amqp.hostname, amqp.port, amqp.tls, amqp.ca_file) == ("rabbit", 5671, True, "/ca.pem")


@pytest_twisted.ensureDeferred
async def test_https_with_a_private_authority(authority: Authority, receiver: Receiver) -> None:
    """With ca_file and a client certificate a destination of a private PKI is delivered to; without either not."""
    cert_file, key_file = authority.issue("client")
    ca_file = str(authority.ca_file)
    tls = TlsFiles(ca_file, str(cert_file), str(key_file)).load()
    deliverer = Deliverer(reactor)
    try:
        deliverer.use_tls(tls, tls.anonymous())
        await deliver(deliverer, receiver.url())
        assert len(receiver.requests) == 1
        # A client's URL is not shown our certificate.
        with pytest.raises(DeliveryExhausted):
            await deliver(deliverer, receiver.url(), rules=ALL_HOSTS)
        for files in (TlsFiles(ca_file, None, None), TlsFiles(None, str(cert_file), str(key_file))):
            deliverer.use_tls(files.load(), files.load())
            with pytest.raises(DeliveryExhausted) as caught:
                await deliver(deliverer, receiver.url())
            assert caught.value.reason in ("tls", "connection")
        assert len(receiver.requests) == 1
    finally:
        await deliverer.close()


@pytest_twisted.ensureDeferred
async def test_another_authority(authority: Authority, receiver: Receiver, tmp_path: Path) -> None:
    """A certificate of an authority that isn't in ca_file, or for another name, is a TLS fault."""
    cert_file, key_file = authority.issue("client")
    other = Authority(tmp_path, "another authority")
    deliverer = Deliverer(reactor)
    try:
        for ca_file, host in ((other.ca_file, "127.0.0.1"), (authority.ca_file, "localhost")):
            tls = TlsFiles(str(ca_file), str(cert_file), str(key_file)).load()
            deliverer.use_tls(tls, tls)
            with pytest.raises(DeliveryExhausted) as caught:
                await deliver(deliverer, f"https://{host}:{receiver.port}/")
            assert caught.value.reason == "tls"
    finally:
        await deliverer.close()


@pytest_twisted.ensureDeferred
async def test_no_forward_secrecy(authority: Authority) -> None:
    """A destination that offers only TLS 1.2 without forward secrecy is a TLS fault."""
    cert_file, key_file = authority.issue_rsa("localhost")
    tls = TlsFiles(str(authority.ca_file), None, None).load()
    deliverer = Deliverer(reactor)
    deliverer.use_tls(tls, tls)
    faults: list[DeliveryExhausted] = []
    for ciphers in ("kRSA", "ALL"):
        options = CertificateOptions(
            certificate=Certificate.loadPEM(cert_file.read_bytes()).original,
            privateKey=KeyPair.load(key_file.read_bytes(), 1).original,
            acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(ciphers),
        )
        # With lowerMaximumSecurityTo=TLSVersion.TLSv1_2 Twisted 24.11 takes TLS 1.2 away, too.
        options.getContext().set_options(SSL.OP_NO_TLSv1_3)
        server = Receiver(reactor, tls=options)
        server.start()
        try:
            await deliver(deliverer, f"https://localhost:{server.port}/")
        except DeliveryExhausted as fault:
            faults.append(fault)
        assert len(server.requests) == (ciphers == "ALL")
        await deliverer.close()
        await server.stop()
    assert [fault.reason for fault in faults] == ["tls"]
