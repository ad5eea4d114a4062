"""Where a client's URL may lead: every spelling of an address, and the rules of the configuration."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.client import URI

from junebug_turn.daemon.settings import load
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import DeliveryRefused
from junebug_turn.net.addresses import (
    ALL_HOSTS,
    HostRules,
    as_address,
    ascii_name,
    is_forbidden,
    is_local_name,
    plain,
)
from tests.support.configurations import FLAGS, faults, only

METADATA = [
    "169.254.169.254",
    "169.254.169.254.",
    "169.254.43518",
    "169.16689662",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "0251.0xfe.43518",
    "025177524776",
    "１６９.２５４.１６９.２５４",
    "169。254。169。254",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:FFFF:A9FE:A9FE]",
    "[::169.254.169.254]",
    "[::ffff:0:169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:4136:e378:8000:63bf:5601:5601]",
    "[2001::5601:5601]",
]
OTHERS = [
    "169.254.0.1",
    "169.254.170.2",
    "0.0.0.0",
    "0",
    "0x0",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "[::]",
    "[::ffff:0.0.0.0]",
    "[fe80::1]",
    "[febf::1]",
    "[fd00:ec2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]",
    "[fd20:ce::254]",
    "[ff02::1]",
]


def refusal(url: str, rules: HostRules = ALL_HOSTS) -> str:
    with pytest.raises(DeliveryRefused) as caught:
        Destination.of(url, None, rules=rules)
    assert caught.value.attempts == 0
    return caught.value.reason


@pytest.mark.parametrize("host", METADATA + OTHERS)
def test_forbidden(host: str) -> None:
    """An address of a link, a cloud, nobody or everybody is refused to clients in every spelling."""
    assert refusal(f"http://{host}/latest/meta-data") == "forbidden_address"
    assert refusal(f"https://user:password@{host}:8443/") == "forbidden_address"
    # Also where the rules name it.
    assert refusal(f"http://{host}/", HostRules.of(["*", "0.0.0.0/0", "::/0"])) == "forbidden_address"


@pytest.mark.parametrize("host", METADATA + OTHERS)
def test_an_operator_s_url(host: str) -> None:
    """The operator's own URLs may lead anywhere."""
    assert Destination.of(f"http://{host}/", None).url.startswith("http://")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "[::1]",
        "[fd00::1]",
        "[2001:db8::1]",
        "example.org",
        "1.example.org",
        "0x.example.org",
        "face",
        "169.254.169.254.example.org",
    ],
)
def test_allowed(host: str) -> None:
    """Loopback and private addresses, and every name, are taken unless the rules say otherwise."""
    assert Destination.of(f"http://{host}/", None, rules=ALL_HOSTS).rules is ALL_HOSTS


@pytest.mark.parametrize(
    "url", ["http://[fe80::1%25eth0]/", "http://[::1%eth0]/", "http://[169.254.169.254]/"]
)
def test_strange_addresses(url: str) -> None:
    """An address with a zone, or one in the wrong form, is no URL at all."""
    assert refusal(url) == "bad_url"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org@169.254.169.254/",
        "http://example.org:80@169.254.169.254:80/",
        "http://169.254.169.254#@example.org/",
        "http://169.254.169.254?@example.org/",
        "HTTP://169.254.169.254",
        " http://169.254.169.254/ ",
        "http://169.254\t.169.254/",
    ],
)
def test_disguises(url: str) -> None:
    """What is checked is the host that would be connected to, however the URL hides it."""
    assert refusal(url) == "forbidden_address"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("rapidpro.example.org", True),
        ("RAPIDPRO.Example.org.", True),
        ("rapidpro.example.org.evil.net", False),
        ("x.rapidpro.example.org", False),
        ("a.example.com", True),
        ("a.b.example.com", True),
        ("example.com", False),
        ("evilexample.com", False),
        ("bücher.example", True),
        ("xn--bcher-kva.example", True),
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("167838211", True),
        ("[::ffff:10.1.2.3]", True),
        ("127.0.0.1", False),
        ("[2001:db8::1]", True),
        ("[2001:db9::1]", False),
    ],
)
def test_rules(host: str, allowed: bool) -> None:
    """Names, wildcards and networks of the rules are allowed, and no address besides."""
    rules = HostRules.of(
        ["rapidpro.example.org", "*.example.com", "bücher.example", "10.1.0.0/16", "2001:db8::/32"]
    )
    names_only = HostRules(rules.names, ())
    is_name = as_address(host) is None
    if allowed:
        Destination.of(f"http://{host}/", None, rules=rules)
    else:
        assert refusal(f"http://{host}/", names_only) == "forbidden_address"
        if not is_name:
            assert refusal(f"http://{host}/", rules) == "forbidden_address"


@pytest.mark.parametrize(
    "network", ["::ffff:10.0.0.0/104", "::ffff:a00:0/104", "::ffff:0:10.0.0.0/104", "64:ff9b::10.0.0.0/104"]
)
def test_ipv4_networks_in_ipv6(network: str) -> None:
    """A network of IPv4 that is written as one of IPv6 allows the addresses of that network, and no others."""
    rules = HostRules.of([network])
    assert rules == HostRules.of(["10.0.0.0/8"])
    for host in ("10.1.2.3", "[::ffff:10.1.2.3]"):
        Destination.of(f"http://{host}/", None, rules=rules)
    assert rules.permits("name.example.org", IPv4Address("10.1.2.3"))
    for host in ("11.1.2.3", "[::ffff:11.1.2.3]", "[::1]"):
        assert refusal(f"http://{host}/", rules) == "forbidden_address"


@pytest.mark.parametrize("network", ["::/0", "::/96", "::1/128", "2002::/16", "2001::/32", "2001:db8::/32"])
def test_other_ipv6_networks(network: str) -> None:
    """Any other network stays as it is: it allows no address of IPv4."""
    rules = HostRules.of([network])
    assert not rules.permits("name.example.org", IPv4Address("10.1.2.3"))
    assert str(rules.networks[0]) == network


def test_a_name_that_may_be_in_a_network() -> None:
    """Where networks are allowed, a name is only refused when its address is known."""
    rules = HostRules.of(["10.1.0.0/16", "good.example.org"])
    Destination.of("http://other.example.org/", None, rules=rules)
    assert rules.permits("other.example.org", IPv4Address("10.1.2.3"))
    assert not rules.permits("other.example.org", IPv4Address("10.2.2.3"))
    assert rules.permits("good.example.org", IPv4Address("10.2.2.3"))
    assert not rules.permits("good.example.org", IPv4Address("169.254.169.254"))


def test_no_host_at_all() -> None:
    """An empty list allows nothing."""
    assert refusal("http://example.org/", HostRules.of([])) == "forbidden_address"
    assert refusal("http://127.0.0.1/", HostRules.of([])) == "forbidden_address"


@given(st.ip_addresses(v=4))
def test_forms_of_one_address(address: IPv4Address) -> None:
    """However an IPv4 address is written or wrapped, it is the same one."""
    number = int(address)
    parts = address.packed
    for text in (
        str(address),
        str(number),
        hex(number),
        f"0{number:o}" if number else "0",
        ".".join(hex(part) for part in parts),
        ".".join(f"0{part:o}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"::ffff:{address}",
        f"64:ff9b::{address}",
    ):
        assert as_address(text) == address, text
    teredo = (0x2001 << 112) | (0x4136E378 << 64) | (number ^ 0xFFFFFFFF)
    assert plain(IPv6Address(teredo)) == address
    assert plain(IPv6Address((0x2002 << 112) | (number << 80) | 1)) == address


@given(st.ip_addresses())
def test_loopback_and_private_ones(address: IPv4Address | IPv6Address) -> None:
    """Of what Python calls link-local, multicast or unspecified nothing is permitted."""
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        assert is_forbidden(address)
    assert not is_forbidden(ip_address("127.0.0.1"))
    assert not is_forbidden(ip_address("::1"))


def test_option() -> None:
    """event_url_allowed_hosts is a list of names, wildcards and networks; anything else is told."""
    options = only(load({**FLAGS, "event_url_allowed_hosts": '[a.example.org, "*.b.org", 10.0.0.0/8]'}, {}))
    assert options.event_url_allowed_hosts == HostRules.of(["a.example.org", "*.b.org", "10.0.0.0/8"])
    assert only(load(FLAGS, {})).event_url_allowed_hosts is None
    for wrong in (
        "a.example.org",
        "[[1]]",
        "[http://a/]",
        '["a b"]',
        '["*.*.org"]',
        '["*x.org"]',
        '[""]',
        '["..a"]',
    ):
        (line,) = faults({**FLAGS, "event_url_allowed_hosts": wrong})
        assert line.startswith("event_url_allowed_hosts: must"), wrong


@pytest.mark.parametrize(
    "name",
    ["_", "a__b", "a_b.example.org", "A_B.", "x" * 62 + "_"],
)
def test_local_names(name: str) -> None:
    """Underscores can stand anywhere in a label."""
    assert is_local_name(name)
    assert ascii_name(name) == name.lower()
    assert URI.fromBytes(f"http://{name}/".encode()).host == name.encode()


@pytest.mark.parametrize(
    "name", ["a_b..c", "-a_b", "a_b-", ".a_b", "ü_b", "a_b\n", "a_ b", "x" * 63 + "_", "a_." * 99]
)
def test_no_local_names(name: str) -> None:
    """What is no name without its underscores is none with them."""
    assert not is_local_name(name)
    with pytest.raises(UnicodeError):
        ascii_name(name)
