"""Which proxy a URL goes through: the options' forms, and the hosts that need none."""

from __future__ import annotations

import json

import pytest

from junebug_turn.daemon.settings import explain, load
from junebug_turn.net.proxies import DirectHosts, Proxies, Proxy
from tests.support.configurations import FLAGS, faults


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy:3128", Proxy("proxy", 3128)),
        ("http://proxy", Proxy("proxy", 80)),
        ("proxy:3128", Proxy("proxy", 3128)),
        ("http://[::1]:3128/", Proxy("::1", 3128)),
        ("http://a%40b:p%3A%2F@proxy:1", Proxy("proxy", 1, b"Basic YUBiOnA6Lw==")),
        ("http://a@proxy:1", Proxy("proxy", 1, b"Basic YTo=")),
    ],
)
def test_urls(url: str, proxy: Proxy) -> None:
    """A proxy is a URL, with user and password where it wants them; no name that is logged has these."""
    assert Proxy.of(url) == proxy
    assert load(FLAGS | {"http_proxy": url}, {}).daemon.proxies.http == proxy
    assert "Basic" not in repr(proxy)
    assert "@" not in proxy.name


@pytest.mark.parametrize(
    "url",
    ["https://u:s3cret@proxy", "socks5://u:s3cret@proxy", "http://u:s3cret@proxy/path", "http://u:s3cret@"],
)
def test_faults(url: str) -> None:
    """A URL that is no HTTP proxy's ends the start, with one line that doesn't quote it."""
    (line,) = faults(FLAGS, {"HTTPS_PROXY": url})
    assert line.startswith("https_proxy: must ")
    assert "s3cret" not in line


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("prefix", ["", "JT"])
def test_the_usual_variables(lower: bool, prefix: str) -> None:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY mean these options, in lower case too, and whatever the prefix of the
    daemon's own variables is."""
    usual = {
        "HTTP_PROXY": "http://one:1",
        "HTTPS_PROXY": "http://two:2",
        "NO_PROXY": ".example.org, 10.0.0.0/8",
    }
    environ = {name.lower() if lower else name: value for name, value in usual.items()}
    environ |= {"VUMI_CONFIG_PREFIX": prefix} if prefix else {}
    proxies = load(FLAGS, environ).daemon.proxies
    assert proxies.proxy("http", "other", 80) == Proxy("one", 1)
    assert proxies.proxy("https", "other", 443) == Proxy("two", 2)
    assert proxies.proxy("https", "a.example.org", 443) is None
    assert proxies.proxy("http", "10.1.2.3", 80) is None
    own = f"{prefix}_HTTP_PROXY" if prefix else "HTTP_PROXY"
    assert load(FLAGS, environ | {own: "http://own:3"}).daemon.proxies.http == Proxy("own", 3)
    assert load(FLAGS | {"http_proxy": ""}, environ).daemon.proxies.http is None


def test_one_for_both() -> None:
    """http_proxy is for https URLs too, unless https_proxy names another."""
    proxies = load(FLAGS | {"http_proxy": "http://one:1"}, {}).daemon.proxies
    assert proxies.proxy("https", "h", 443) == proxies.proxy("http", "h", 80) == Proxy("one", 1)


def test_the_report() -> None:
    """The report of the configuration has a proxy's host, and no password."""
    explained = explain(FLAGS | {"http_proxy": "http://u:s3cret@proxy:3128"}, {})
    shown = {key: each.shown for key, each in explained.daemon.items()}
    assert shown["http_proxy"] == "http://proxy:3128/***"
    assert "s3cret" not in json.dumps(shown) + repr(explained.settings)


@pytest.mark.parametrize(
    ("entries", "host", "direct"),
    [
        ("example.org", "example.org", True),
        ("example.org", "a.b.example.org", True),
        (".example.org", "a.example.org", True),
        ("*.Example.org", "a.example.org", True),
        ("example.org", "badexample.org", False),
        ("example.org", "EXAMPLE.ORG.", True),
        ("example.org:8080", "example.org", True),
        ("example.org:80", "example.org", False),
        ("*", "example.org", True),
        ("10.0.0.0/8", "10.1.1.1", True),
        ("10.0.0.0/8", "11.1.1.1", False),
        ("::1", "::1", True),
        ("fd00::/8", "fd00::1", True),
        ("", "localhost", False),
        ("%%%,,/", "example.org", False),
    ],
)
def test_no_proxy(entries: str, host: str, direct: bool) -> None:
    """no_proxy has names, also for those below them, addresses, networks, and * for all."""
    assert DirectHosts.of(entries).has(host, 8080) is direct


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine(host: str) -> None:
    """By default the hosts of this machine need no proxy."""
    flags = FLAGS | {"http_proxy": "http://proxy:1"}
    assert load(flags, {}).daemon.proxies.proxy("http", host, 80) is None
    assert load(flags | {"no_proxy": ""}, {}).daemon.proxies.proxy("http", host, 80) is not None


def test_none() -> None:
    """Without these options there is no proxy."""
    assert load(FLAGS, {}).daemon.proxies.proxy("http", "example.org", 80) is None
    assert Proxies().proxy("https", "example.org", 443) is None
