"""The forms that values can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.daemon.settings import load
from junebug_turn.http.listening import ListenAddress
from junebug_turn.messages.vumi import TRANSPORT_TYPES
from tests.support.configurations import FLAGS, JUNEBUG, TURN, faults, only, written


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
            "s3cret",
        ],
    )
    def test_faults(self, url: str) -> None:
        """A URL that can't be used is an error that names the key and never the password."""
        (line,) = faults(FLAGS, {"AMQP_URL": url})
        assert line.startswith("amqp_url: must ")
        assert line.endswith("(environment variable AMQP_URL)")
        assert "s3" not in line


class TestValues:
    @pytest.mark.parametrize(
        "host", ["rabbit", "rabbit-1.example.org", "my_rabbit", "10.0.0.1", "::1", "fe80::1%eth0"]
    )
    def test_hostname(self, host: str) -> None:
        """The broker's host is a name or an address of either family."""
        assert load(FLAGS | {"amqp_hostname": host}, {}).daemon.amqp.hostname == host

    @pytest.mark.parametrize("name", ["DEBUG", "debug", "Info", "WARN", "ERROR", "critical"])
    def test_log_level(self, name: str) -> None:
        """log_level is read in any case."""
        assert load(FLAGS | {"log_level": name}, {}).daemon.log_level == name.upper()

    def test_warning(self) -> None:
        """WARNING is another name of WARN."""
        assert load(FLAGS | {"log_level": "warning"}, {}).daemon.log_level == "WARN"

    @pytest.mark.parametrize("name", sorted(TRANSPORT_TYPES))
    def test_transport_type(self, name: str) -> None:
        """Each of vumi's transport types is accepted."""
        assert only(load(FLAGS | {"transport_type": name}, {})).transport_type == name

    @pytest.mark.parametrize(
        ("given", "path"), [("", ""), ("/", ""), ("a", "/a"), ("/a/", "/a"), ("/channels/x", "/channels/x")]
    )
    def test_paths(self, file: Path, given: str, path: str) -> None:
        """A path gets a leading slash and loses a trailing one."""
        options = only(load(FLAGS | {"base_url_path": given}, {}))
        assert options.base_url_path == options.path == path
        options = only(load(written(file, TURN | {"vumi_api_path": given}), {}))
        assert options.vumi_api_path == options.path == path

    def test_turn_api_url(self, file: Path) -> None:
        """turn_api_url loses a trailing slash, and can't have a query, since paths are appended to it."""
        flags = written(file, TURN)
        assert only(load(flags | {"turn_api_url": "https://turn/x/"}, {})).turn_api_url == "https://turn/x"
        assert "no query" in faults(flags | {"turn_api_url": "https://turn/x?y=z"})[0]

    @pytest.mark.parametrize("secret", ["whsec_", "whsec_n0 base64 s3cret"])
    def test_webhook_secret(self, secret: str) -> None:
        """webhook_secret is any text, but whsec_ is followed by base64; the line doesn't show it."""
        flags = FLAGS | {"webhook_secret": secret}
        (line,) = faults(flags)
        assert line.startswith("webhook_secret: must ")
        assert "s3cret" not in line
        for right in ("whsec_AAAA", "any text"):
            assert only(load(FLAGS | {"webhook_secret": right}, {})).webhook_secret == right


class TestHttpBind:
    @pytest.mark.parametrize(
        ("http_bind", "description"),
        [
            ("127.0.0.1:8080", "tcp:8080:interface=127.0.0.1"),
            ("localhost:8080", "tcp:8080:interface=localhost"),
            ("0.0.0.0:0", "tcp:0:interface=0.0.0.0"),
            ("[::1]:8080", r"tcp6:8080:interface=\:\:1"),
            ("[::]:8080", r"tcp6:8080:interface=\:\:"),
            ("unix:/run/x.sock", "unix:/run/x.sock:mode=660"),
            ("unix:/run/x.sock:mode=600", "unix:/run/x.sock:mode=600"),
            ("tcp:8080", "tcp:8080"),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
            ("ssl:443:privateKey=k.pem", "ssl:443:privateKey=k.pem"),
        ],
    )
    def test_forms(self, http_bind: str, description: str) -> None:
        """host:port, [v6]:port, unix:/path and endpoint descriptions become what Twisted listens on."""
        address = ListenAddress.of(http_bind)
        assert address.description == description
        assert address == ListenAddress.of(description)
        loaded = only(load(FLAGS | {"http_bind": http_bind}, {})).http_bind
        assert (loaded, str(loaded)) == (address, http_bind)
