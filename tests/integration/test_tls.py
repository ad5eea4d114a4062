"""TLS of the whole daemon, by a private authority made on the spot: the broker, the destinations, the listener."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from junebug_turn.daemon.process import call_on_signals
from tests.integration.conftest import RunDaemon
from tests.integration.test_junebug import inbound
from tests.support.certificates import Authority
from tests.support.daemon import Running, reactor, running
from tools.servers.process import free_port
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

_TLS_CONFIGURATION = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {ca_file}
ssl_options.certfile = {cert_file}
ssl_options.keyfile = {key_file}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_rabbitmq(authority: Authority, tmp_path: Path) -> Iterator[tuple[RabbitNode, int]]:
    """A node that takes TLS only from clients with a certificate of the authority, and its port for that."""
    cert_file, key_file = authority.issue("localhost")
    port = free_port()
    (tmp_path / "node" / "conf.d").mkdir(parents=True)
    (tmp_path / "node" / "conf.d" / "tls.conf").write_text(
        _TLS_CONFIGURATION.format(
            port=port, ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file
        )
    )
    with RabbitNode(tmp_path / "node") as node:
        yield node, port


@pytest_twisted.ensureDeferred
async def test_amqps_with_a_private_authority(
    tls_rabbitmq: tuple[RabbitNode, int], authority: Authority, receiver: Receiver
) -> None:
    """With amqp.ca_file and a client certificate the daemon works on a RabbitMQ that demands both."""
    node, port = tls_rabbitmq
    cert_file, key_file = authority.issue("daemon")
    witness = pika.BlockingConnection(
        pika.ConnectionParameters(node.host, node.port, heartbeat=0, connection_attempts=20, retry_delay=0.5)
    )
    try:
        async with running(
            node,
            "tls",
            witness.channel(),
            receiver,
            "junebug",
            mo_message_url=receiver.url("/inbound"),
            default_from_addr="8110",
            amqp_hostname="localhost",
            amqp_port=port,
            amqp_tls="true",
            amqp_ca_file=str(authority.ca_file),
            amqp_client_cert_file=str(cert_file),
            amqp_client_key_file=str(key_file),
        ) as side:
            assert (await side.post({"to": "1", "content": "c"})).status == 201
            assert (await side.outbound())["content"] == "c"
            side.publish("inbound", inbound(content="in"))
            assert (await receiver.received(1))[0].json["content"] == "in"
    finally:
        witness.close()


class Listener:
    """A TLS client of the daemon, in a thread of its own."""

    def __init__(self, authority: Authority, port: int) -> None:
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        plain = socket.create_connection(("localhost", port), timeout=10)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")

    @property
    def serial(self) -> str:
        certificate: Any = self._socket.getpeercert()
        return str(certificate["serialNumber"])

    def health(self) -> Any:
        self._socket.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"}\n" not in answer:
            chunk = self._socket.recv(65536)
            assert chunk, answer
            answer += chunk
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def close(self) -> None:
        self._socket.close()


@pytest_twisted.async_yield_fixture
async def tls_side(run_daemon: RunDaemon, authority: Authority, receiver: Receiver) -> AsyncIterator[Running]:
    """A daemon that listens with TLS and takes SIGHUP."""
    cert_file, key_file = authority.issue("localhost")
    async with run_daemon(
        "junebug",
        mo_message_url=receiver.url("/inbound"),
        http_bind=f"ssl:0:privateKey={key_file}:certKey={cert_file}:interface=127.0.0.1",
    ) as side:
        before = signal.getsignal(signal.SIGHUP)
        call_on_signals(reactor, SIGHUP=side.daemon.reload)
        yield side
        signal.signal(signal.SIGHUP, before)


@pytest_twisted.ensureDeferred
async def test_certificates_are_read_again(tls_side: Running, authority: Authority) -> None:
    """After SIGHUP new connections get the new certificate, and one that was open before goes on."""
    port = tls_side.port
    old = await deferToThread(Listener, authority, port)
    assert (await deferToThread(old.health))["health"] == "ok"
    authority.issue("localhost")  # writes the same files
    again = await deferToThread(Listener, authority, port)
    assert again.serial == old.serial
    os.kill(os.getpid(), signal.SIGHUP)
    for _ in range(100):
        new = await deferToThread(Listener, authority, port)
        if new.serial != old.serial:
            break
        new.close()
    assert new.serial != old.serial
    for client in (old, again, new):
        assert (await deferToThread(client.health))["health"] == "ok"
        client.close()


@pytest_twisted.ensureDeferred
async def test_files_that_can_t_be_used_change_nothing(
    tls_side: Running, authority: Authority, tmp_path: Path
) -> None:
    """Files that can't be used at a SIGHUP leave the listener with the certificate that it has."""
    port = tls_side.port
    (tmp_path / "localhost-cert.pem").write_text("rubbish")
    tls_side.daemon.reload()
    client = await deferToThread(Listener, authority, port)
    assert (await deferToThread(client.health))["health"] == "ok"
    client.close()


def _handshake(authority: Authority, port: int, ciphers: str) -> str:
    """The cipher suite that a client of TLS 1.2 with these ones agrees on."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        name, _, _ = secured.cipher() or ("", "", 0)
        return name


@pytest_twisted.ensureDeferred
async def test_forward_secrecy(run_daemon: RunDaemon, authority: Authority, receiver: Receiver) -> None:
    """A client of TLS 1.2 without forward secrecy is refused; one with it is taken, also after SIGHUP."""
    cert_file, key_file = authority.issue_rsa("localhost")
    bind = f"ssl:0:privateKey={key_file}:certKey={cert_file}:interface=127.0.0.1"
    async with run_daemon("junebug", mo_message_url=receiver.url("/inbound"), http_bind=bind) as side:
        for _ in range(2):
            assert "DHE" in await deferToThread(_handshake, authority, side.port, "ALL")
            with pytest.raises(ssl.SSLError):
                await deferToThread(_handshake, authority, side.port, "kRSA")
            side.daemon.reload()
