"""The connection pool for Redis: lost connections, silent peers, refusals, TLS and socket files."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives import serialization
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import trustRootFromCertificates

from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.pool import SIZE, RedisPool
from tests.support.certificates import self_signed
from tests.support.daemon import until
from tests.support.store_harness import reactor
from tools.servers.process import free_port
from tools.servers.redis import RedisServer

Connect = Callable[..., RedisPool]


@pytest_twisted.async_yield_fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes and starts pools, which are stopped at the end."""
    pools: list[RedisPool] = []

    def connect(url: str, timeout: float = 2, trust_root: Any = None) -> RedisPool:
        pool = RedisPool(reactor, RedisAddress.from_url(url), timeout, trust_root)
        pool.start()
        pools.append(pool)
        return pool

    yield connect
    for pool in pools:
        await pool.stop()


@pytest_twisted.ensureDeferred
async def test_lost_connections_leave_nothing(server: RedisServer, connect: Connect) -> None:
    """Connections that are lost are replaced, not collected."""
    pool = connect(server.url)
    for _ in range(3):
        await until(lambda: len(pool.pool) == SIZE)
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: not pool.pool)
    await until(lambda: len(pool.pool) == SIZE)
    assert pool.connectionQueue.pending == []
    assert await pool.run("set", "key", "value") == "OK"


@pytest_twisted.ensureDeferred
async def test_a_lost_command_runs_again(server: RedisServer, connect: Connect) -> None:
    """A command that its connection owed when it was lost runs again on another one."""
    pool = connect(server.url)
    await pool.connection()
    popped = Deferred.fromCoroutine(pool.run("execute_command", "BLPOP", "list", 0))
    await until(lambda: "cmd=blpop" in server.cli("CLIENT", "LIST"))
    server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(lambda: "cmd=blpop" in server.cli("CLIENT", "LIST"))
    server.cli("RPUSH", "list", "value")
    assert await popped == [b"list", b"value"]


@pytest_twisted.ensureDeferred
async def test_cancelled_requests(connect: Connect) -> None:
    """A request for a connection that is cancelled leaves nothing, and stopping cancels the others."""
    pool = connect(f"redis://127.0.0.1:{free_port()}")
    cancelled, stopped = pool.connection(), pool.connection()
    assert set(pool.waiting) == {cancelled, stopped}
    cancelled.cancel()
    assert set(pool.waiting) == {stopped}
    await pool.stop()
    assert pool.waiting == {}
    for request in (cancelled, stopped):
        with pytest.raises(CancelledError):
            await request


class _Silent(Protocol):
    pass


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_speaks(connect: Connect) -> None:
    """Stopping is bounded when the peer accepts connections and says nothing to AUTH."""
    listening = reactor.listenTCP(0, Factory.forProtocol(_Silent), interface="127.0.0.1")
    pool = connect(f"redis://:secret@127.0.0.1:{listening.getHost().port}", timeout=0.2)
    with pytest.raises(DeferredTimeout):
        await pool.connection().addTimeout(0.2, reactor)
    began = reactor.seconds()
    await pool.stop()
    assert reactor.seconds() - began < 1
    await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_wrong_password_for_a_while(private: Callable[..., RedisServer], connect: Connect) -> None:
    """A password that is refused is the refusal, without being shown; once it is right there are connections."""
    server = private(requirepass="right")
    pool = connect(f"redis://:secret@{server.host}:{server.port}", timeout=0.5)
    await until(lambda: pool.refusal)
    assert "could not auth" in str(pool.refusal)
    assert "secret" not in str(pool.refusal)
    server.cli("-a", "right", "--no-auth-warning", "CONFIG", "SET", "requirepass", "secret")
    await pool.connection()
    assert pool.refusal is None


@pytest_twisted.ensureDeferred
async def test_database_and_user(private: Callable[..., RedisServer], connect: Connect) -> None:
    """User and password are percent-decoded, and the URL's database is used."""
    server = private(requirepass="admin")
    cli = ("-a", "admin", "--no-auth-warning")
    server.cli(*cli, "ACL", "SETUSER", "vu:mi", "on", ">p@ss/#", "~*", "+@all")
    pool = connect(f"redis://vu%3Ami:p%40ss%2F%23@{server.host}:{server.port}/3")
    await pool.run("set", "key", "value")
    assert server.cli(*cli, "-n", "3", "DBSIZE").strip() == "1"


@pytest.mark.parametrize("form", ["redis://127.0.0.1:{port}/0", "unix:///no-folder/{port}.sock?db=0"])
@pytest_twisted.ensureDeferred
async def test_no_server(form: str, connect: Connect) -> None:
    """The reason why no connection can be made is the fault, also of an operation that only had no answer."""
    pool = connect(form.format(port=free_port()))
    await until(lambda: pool.refusal)
    assert re.search("refused|No such file", str(pool.fault("no answer within 2 s")))


def test_no_reason() -> None:
    """Without a reason the fault is that of the last operation, or that there is no connection."""
    pool = RedisPool(reactor, RedisAddress.from_url("redis://127.0.0.1:1/0"), 2)
    assert pool.fault("no answer within 2 s") == "no answer within 2 s"
    assert pool.fault(None) == "not connected"


@pytest_twisted.ensureDeferred
async def test_socket_file(server: RedisServer, connect: Connect) -> None:
    """unix:// is a socket file."""
    await connect(f"unix://{server.socket}?db=2").run("set", "key", "value")
    assert server.cli("-n", "2", "DBSIZE").strip() == "1"
    server.cli("-n", "2", "FLUSHDB")


@pytest.mark.parametrize("trusted", [True, False])
@pytest_twisted.ensureDeferred
async def test_tls(
    private: Callable[..., RedisServer], connect: Connect, tmp_path: Path, trusted: bool
) -> None:
    """rediss:// speaks TLS, only with a server whose certificate is good for its host."""
    certificate = self_signed("localhost")
    pem, key = tmp_path / "c.pem", tmp_path / "k.pem"
    pem.write_bytes(certificate.dumpPEM())
    private_key = certificate.privateKey.original.to_cryptography_key()
    key.write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    port = free_port()
    private(
        **{
            "tls-port": str(port),
            "tls-cert-file": str(pem),
            "tls-key-file": str(key),
            "tls-auth-clients": "no",
        }
    )
    trust_root = trustRootFromCertificates([certificate]) if trusted else None
    pool = connect(f"rediss://localhost:{port}", trust_root=trust_root)
    connection = pool.connection().addTimeout(1, reactor)
    if trusted:
        await connection
        assert await pool.run("set", "key", "value") == "OK"
    else:
        with pytest.raises(DeferredTimeout):
            await connection
