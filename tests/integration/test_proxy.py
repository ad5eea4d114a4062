"""Deliveries through a real HTTP proxy: both schemes, its refusals, and the rules for clients' URLs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.logger import globalLogPublisher

from junebug_turn.cli.connectivity import reach
from junebug_turn.daemon.settings import load
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import RetryPolicy
from junebug_turn.errors import DeliveryDeferred, DeliveryFailed, DeliveryRefused
from junebug_turn.net.addresses import ALL_HOSTS, HostRules
from junebug_turn.net.proxies import Proxies
from junebug_turn.net.tls import ClientTls, TlsFiles
from tests.integration.conftest import RunDaemon
from tests.integration.test_outage import inbound
from tests.support.certificates import Authority
from tests.support.configurations import JUNEBUG
from tests.support.daemon import until
from tests.support.delivery_harness import SUBJECT
from tests.support.names import resolving
from tools.servers.process import free_port
from tools.servers.proxy import TinyProxy
from tools.servers.rabbitmq import RabbitNode
from tools.servers.receiver import Receiver

reactor: Any = _reactor


@pytest.fixture
def run_proxy() -> Iterator[Callable[..., TinyProxy]]:
    """Starts proxies, which end with the test."""
    proxies: list[TinyProxy] = []

    def start(settings: str = "") -> TinyProxy:
        proxies.append(TinyProxy(settings))
        proxies[-1].start()
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines of failed deliveries: the reason of each."""
    reasons: list[str] = []

    def observe(event: Any) -> None:
        if "reason" in event:
            reasons.append(str(event["reason"]))

    globalLogPublisher.addObserver(observe)
    yield reasons
    globalLogPublisher.removeObserver(observe)


async def deliver(
    url: str,
    proxy: str,
    *,
    no_proxy: str = "",
    rules: HostRules | None = None,
    tls: ClientTls | None = None,
    times: int = 1,
) -> None:
    """Make deliveries to ``url``, one after the other."""
    deliverer = Deliverer(reactor, tls_policy=tls, proxies=Proxies.of(proxy, None, no_proxy))
    try:
        for _ in range(times):
            destination = Destination.of(url, "token", rules=rules)
            policy = RetryPolicy(0, 0, 0)
            configured = rules is None
            await deliverer.deliver(
                destination, b"{}", timeout=20, policy=policy, configured=configured, **SUBJECT
            )
    finally:
        await deliverer.close()


@pytest_twisted.ensureDeferred
async def test_http(run_proxy: Callable[..., TinyProxy], receiver: Receiver) -> None:
    """A request for an http URL is sent to the proxy, with the whole URL in its first line, on a connection of its own:
    some proxies close each after its answer."""
    proxy = run_proxy()
    url = f"http://localhost:{receiver.port}/path?q=1"
    await deliver(url, proxy.url, times=3)
    assert set(proxy.requests) == {f"POST {url} HTTP/1.1"}
    assert [request.path for request in receiver.requests] == ["/path?q=1"] * 3
    assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"
    assert "proxy-authorization" not in receiver.requests[0].headers


@pytest_twisted.ensureDeferred
async def test_https(run_proxy: Callable[..., TinyProxy], tmp_path: Path, logged: list[str]) -> None:
    """For an https URL the proxy is asked for a tunnel, in which the destination's certificate is verified as ever."""
    proxy = run_proxy()
    authority = Authority(tmp_path)
    tls = TlsFiles(str(authority.ca_file), None, None).load()
    for name, times in (("localhost", 3), ("another.example.org", 0)):
        server = Receiver(reactor, tls=authority.server(name))
        server.start()
        try:
            delivery = deliver(f"https://localhost:{server.port}/path", proxy.url, tls=tls, times=3)
            if times:
                await delivery
            else:
                with pytest.raises(DeliveryDeferred):
                    await delivery
            assert len(server.requests) == times
            # One connection for all.
            assert proxy.requests.count(f"CONNECT localhost:{server.port} HTTP/1.1") == 1
        finally:
            await server.stop()
    assert logged == [f"tls, through the proxy 127.0.0.1:{proxy.port}"]


@pytest_twisted.ensureDeferred
async def test_no_proxy(run_proxy: Callable[..., TinyProxy], receiver: Receiver) -> None:
    """The hosts of no_proxy are connected to directly."""
    proxy = run_proxy()
    for entry in ("localhost", "*"):
        await deliver(f"http://localhost:{receiver.port}/", proxy.url, no_proxy=entry)
    await deliver(receiver.url("/"), proxy.url, no_proxy="127.0.0.0/8")
    assert len(receiver.requests) == 3
    assert proxy.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest_twisted.ensureDeferred
async def test_a_login(
    run_proxy: Callable[..., TinyProxy], receiver: Receiver, tmp_path: Path, logged: list[str], scheme: str
) -> None:
    """User and password in the proxy's URL are shown to the proxy alone; a wrong one is a failure that names the
    proxy, without them, and is no refusal of the message."""
    proxy = run_proxy("BasicAuth user s3cret-proxy")
    authority = Authority(tmp_path)
    tls = TlsFiles(str(authority.ca_file), None, None).load()
    server = receiver if scheme == "http" else Receiver(reactor, tls=authority.server("localhost"))
    if server is not receiver:
        server.start()
    url = f"{scheme}://localhost:{server.port}/"
    try:
        await deliver(url, proxy.url.replace("//", "//user:s3cret-proxy@"), tls=tls)
        assert len(server.requests) == 1
        assert "proxy-authorization" not in server.requests[0].headers
        for wrong in ("//", "//user:s3cret-other@"):
            with pytest.raises(DeliveryFailed) as caught:
                await deliver(url, proxy.url.replace("//", wrong), tls=tls)
            assert not isinstance(caught.value, DeliveryRefused)
        assert len(server.requests) == 1
    finally:
        if server is not receiver:
            await server.stop()
    name = f"the proxy 127.0.0.1:{proxy.port}"
    assert logged[0].startswith(f"proxy, {name} answered HTTP status 407: it wants a user and a password")
    # This proxy answers a wrong password as a destination would; only for a tunnel it is clear who answers.
    wrong = (
        f"HTTP status 401, through {name}" if scheme == "http" else f"proxy, {name} answered HTTP status 401"
    )
    assert logged[1].startswith(wrong)
    assert len(logged) == 2
    assert "s3cret" not in "".join(logged)


@pytest_twisted.ensureDeferred
async def test_refused_and_away(
    run_proxy: Callable[..., TinyProxy], receiver: Receiver, logged: list[str]
) -> None:
    """A proxy that refuses a tunnel, that can't reach the destination or that is away is named; the message waits."""
    strict = run_proxy("ConnectPort 1")
    proxy = run_proxy()
    gone = f"http://127.0.0.1:{free_port()}"
    for url, through in (
        (f"https://localhost:{receiver.port}/", strict.url),
        (f"https://localhost:{free_port()}/", proxy.url),
        (f"https://localhost:{receiver.port}/", gone),
        (f"http://localhost:{receiver.port}/", gone),
    ):
        with pytest.raises(DeliveryDeferred) as caught:
            await deliver(url, through)
        assert caught.value.reason == "proxy"
    away = f"proxy, no connection to the proxy {gone.removeprefix('http://')}: Connection was refused by other side"
    assert logged[2:] == [away, away]
    assert logged[0].endswith("403: it does not allow this destination")
    assert f"the proxy 127.0.0.1:{proxy.port} answered HTTP status 50" in logged[1]
    # What the proxy says in place of the destination's answer.
    with pytest.raises(DeliveryFailed):
        await deliver(f"http://localhost:{free_port()}/", proxy.url)
    assert logged[-1].endswith(f"through the proxy 127.0.0.1:{proxy.port}")


@pytest_twisted.ensureDeferred
async def test_the_rules_for_clients_urls(
    run_proxy: Callable[..., TinyProxy], receiver: Receiver, tmp_path: Path
) -> None:
    """The host rules hold with a proxy: a client's host is resolved and checked here, and the proxy is asked for the
    checked address, never for the name, which might be another address there."""
    proxy = run_proxy()
    authority = Authority(tmp_path)
    tls = TlsFiles(str(authority.ca_file), None, None).load()
    secure = Receiver(reactor, tls=authority.server("client.example.org"))
    secure.start()
    ports = receiver.port, secure.port
    with resolving() as names:
        names.answers["127.0.0.1"] = [["127.0.0.1"]]
        try:
            names.answers["client.example.org"] = [["169.254.169.254", "127.0.0.1"]]
            await deliver(f"http://client.example.org:{receiver.port}/", proxy.url, rules=ALL_HOSTS)
            await deliver(f"https://client.example.org:{secure.port}/", proxy.url, rules=ALL_HOSTS, tls=tls)
        finally:
            await secure.stop()
        assert proxy.requests == [f"CONNECT 127.0.0.1:{port} HTTP/1.1" for port in ports]
        assert receiver.requests[0].headers["host"] == f"client.example.org:{receiver.port}"
        forbidden = ["rebinding.example.org", "169.254.169.254", "[fe80::1]", "0251.0376.0251.0376"]
        for host in forbidden:
            for scheme in ("http", "https"):
                names.answers["rebinding.example.org"] = [["169.254.169.254"], ["127.0.0.1"]]
                with pytest.raises(DeliveryRefused) as caught:
                    await deliver(f"{scheme}://{host}:{receiver.port}/", proxy.url, rules=ALL_HOSTS)
                assert caught.value.reason == "forbidden_address"
    assert len(proxy.requests) == 2


@pytest_twisted.ensureDeferred
async def test_the_daemon(
    run_proxy: Callable[..., TinyProxy], run_daemon: RunDaemon, receiver: Receiver
) -> None:
    """Options http_proxy and no_proxy are for deliveries: while the proxy is away, messages wait for it, and none is
    lost."""
    proxy = run_proxy()
    options = {
        "base_url_path": "/jb",
        "mo_message_url": f"http://localhost:{receiver.port}/in",
        "http_proxy": proxy.url,
        "no_proxy": "example.org",
    }
    async with run_daemon("junebug", **options) as side:
        side.publish("inbound", inbound(1))
        await until(lambda: len(receiver.requests) == 1, "the first message")
        proxy.stop()
        for number in range(2, 12):
            side.publish("inbound", inbound(number))
        await until(
            lambda: side.daemon.health()["destinations"]["state"] == "degraded", "its circuit to open"
        )
        (state,) = side.daemon.health()["destinations"]["origins"].values()
        assert state["fault"].startswith(f"proxy, no connection to the proxy 127.0.0.1:{proxy.port}: ")
        proxy.start()
        await until(
            lambda: {request.json["content"] for request in receiver.requests} == set(map(str, range(1, 12))),
            "all messages",
        )
        assert side.count("inbound.parked") == 0


@pytest_twisted.ensureDeferred
async def test_check_config(
    run_proxy: Callable[..., TinyProxy], rabbitmq: RabbitNode, receiver: Receiver
) -> None:
    """check-config reaches the destinations through the proxy, and names it where it fails; no_proxy holds."""
    proxy = run_proxy()
    gone = f"http://127.0.0.1:{free_port()}"
    options = JUNEBUG | {"amqp_url": rabbitmq.url, "mo_message_url": f"http://localhost:{receiver.port}/"}
    options |= {"default_event_url": f"https://localhost:{free_port()}/"}
    faults = {}
    for used, direct in ((proxy.url, ""), (gone, ""), (gone, "localhost")):
        settings = load({**options, "http_proxy": used, "no_proxy": direct}, {})
        faults[used, direct] = [str(each.fault) for each in await reach(reactor, settings, 20)][1:]
    assert faults[proxy.url, ""][0] == "None"
    assert "answered HTTP status 50" in faults[proxy.url, ""][1]
    assert all(
        f"no connection to the proxy {gone.removeprefix('http://')}" in each for each in faults[gone, ""]
    )
    assert faults[gone, "localhost"][0] == "None"
