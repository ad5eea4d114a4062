"""The broker's address as a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.daemon.settings import load
from tests.support.configurations import FLAGS, JUNEBUG, faults, written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


class TestAmqpUrl:
    @pytest.mark.parametrize(
        ("url", "amqp"),
        [
            ("amqp://h", AmqpOptions(hostname="h")),
            ("amqp://h/", AmqpOptions(hostname="h")),
            ("amqp://h/%2F", AmqpOptions(hostname="h")),
            ("amqp://h/%2Fvumi", AmqpOptions(hostname="h", vhost="/vumi")),
            ("amqps://h", AmqpOptions(hostname="h", port=5671, tls=True)),
            ("amqps://h:5672/v", AmqpOptions(hostname="h", port=5672, vhost="v", tls=True)),
            ("amqp://[::1]:1/v", AmqpOptions(hostname="::1", port=1, vhost="v")),
            ("amqp://u%40x:p%2F%C3%A9:@h", AmqpOptions(hostname="h", username="u@x", password="p/é:")),
            ("amqp://u:@h", AmqpOptions(hostname="h", username="u", password="")),
            (
                "amqp://u:p@a:1,b,[::1]:2/v",
                AmqpOptions(hostname="a:1,b,[::1]:2", username="u", password="p", vhost="v"),
            ),
            ("amqps://a,b:1", AmqpOptions(hostname="a,b:1", port=5671, tls=True)),
        ],
    )
    def test_forms(self, url: str, amqp: AmqpOptions) -> None:
        """amqp and amqps URLs are read with percent-encoding, and the default port of each."""
        assert load(FLAGS | {"amqp_url": url}, {}).daemon.amqp == amqp

    def test_beats_amqp(self, file: Path) -> None:
        """amqp_url beats the whole of amqp, also that of stronger layers."""
        flags = written(file, JUNEBUG | {"amqp_url": "amqp://u:p@h"})
        amqp = load(flags | {"amqp_hostname": "x"}, {"AMQP_PASSWORD": "y"}).daemon.amqp
        assert amqp == AmqpOptions(hostname="h", username="u", password="p")

    @pytest.mark.parametrize(
        "url",
        [
            "http://u:s3cret@h/",
            "amqp://u:s3cret@/",
            "amqp://u:s3#cret@h/",
            "amqp://u:s3cret@h:70000",
            "amqp://u:s3cret@h:0",
            "amqp://u:s3cret%FF@h",
            "amqp://u:s3cret@h/?heartbeat=1",
            "amqp://u:s3cret@[h",
            "amqp://u:s3cret@h,/",
            "s3cret",
        ],
    )
    def test_faults(self, url: str) -> None:
        """A URL that can't be used is an error that names the key and never the password."""
        (line,) = faults(FLAGS, {"AMQP_URL": url})
        assert line.startswith("amqp_url: must ")
        assert line.endswith("(environment variable AMQP_URL)")
        assert "s3" not in line


class TestHosts:
    @pytest.mark.parametrize(
        ("hostname", "addresses"),
        [
            ("a", ["a:5672"]),
            ("a:1", ["a:1"]),
            ("::1", ["[::1]:5672"]),
            ("[::1]", ["[::1]:5672"]),
            ("[::1]:1", ["[::1]:1"]),
            ("a, b:1 ,::1", ["a:5672", "b:1", "[::1]:5672"]),
            (["a", "b:1"], ["a:5672", "b:1"]),
        ],
    )
    def test_forms(self, file: Path, hostname: object, addresses: list[str]) -> None:
        """amqp.hostname may be a list of host[:port], in YAML or with commas in a variable or flag."""
        found = [load(written(file, JUNEBUG | {"amqp": {"hostname": hostname}}), {}).daemon.amqp]
        if isinstance(hostname, str):
            found.append(load(FLAGS, {"AMQP_HOSTNAME": hostname}).daemon.amqp)
            found.append(load(FLAGS | {"amqp_hostname": hostname}, {}).daemon.amqp)
        for amqp in found:
            assert [node.address for node in amqp.nodes] == addresses
            assert amqp.address == ", ".join(addresses)

    def test_the_port_of_those_without_one(self) -> None:
        """amqp.port is for the hosts that have no port of their own."""
        amqp = load(FLAGS | {"amqp_hostname": "a,b:1", "amqp_port": "7"}, {}).daemon.amqp
        assert [node.port for node in amqp.nodes] == [7, 1]
