"""The forms that values can have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from junebug_turn.daemon.settings import load
from junebug_turn.messages.vumi import TRANSPORT_TYPES
from tests.support.configurations import FLAGS, TURN, faults, only, written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


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

    @pytest.mark.parametrize(
        ("name", "level"), [("warning", "WARN"), ("NOTSET", "DEBUG"), ("FATAL", "CRITICAL")]
    )
    def test_python_log_level(self, name: str, level: str) -> None:
        """The other level names of Python's logging, which vumi2 takes, mean the nearest of ours."""
        assert load(FLAGS | {"log_level": name}, {}).daemon.log_level == level

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

    @pytest.mark.parametrize("option", ["webhook_secret", "event_webhook_secret"])
    @pytest.mark.parametrize("secret", ["whsec_", "whsec_n0 base64 s3cret"])
    def test_webhook_secret(self, option: str, secret: str) -> None:
        """Secrets for webhooks are any text, but whsec_ is followed by base64; the line doesn't show it."""
        flags = FLAGS | {option: secret}
        (line,) = faults(flags)
        assert line.startswith(f"{option}: must ")
        assert "s3cret" not in line
        for right in ("whsec_AAAA", "any text"):
            assert getattr(only(load(FLAGS | {option: right}, {})), option) == right

    @pytest.mark.parametrize(
        ("given", "read"),
        [
            ("[30s, 5m, 30m, 2h]", (30, 300, 1800, 7200)),
            ("[30.0, 300.0, 1800.0, 7200.0]", (30, 300, 1800, 7200)),
            ('["0.5s", 1, 1 m, 1d]', (0.5, 1, 60, 86400)),
            ("[7d]", (604800,)),
        ],
    )
    def test_durations(self, given: str, read: tuple[float, ...]) -> None:
        """retry_delays is a list of durations: numbers with s, m, h or d, or seconds."""
        assert only(load(FLAGS, {"RETRY_DELAYS": given})).retry_delays == read

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("[]", "a list of durations"),
            ("30s", "a list of durations"),
            ("[5m, 30s]", "longer than the one before"),
            ("[60, 1m]", "longer than the one before"),
            ("[0s]", "a number of seconds"),
            ("[-1s]", "a number of seconds"),
            ("[8d]", "a number of seconds"),
            ("[1w]", "a number of seconds"),
            ("[.inf]", "a number of seconds"),
            ("[true]", "a number of seconds"),
            ("[null]", "a number of seconds"),
        ],
    )
    def test_wrong_durations(self, given: str, said: str) -> None:
        """An empty or unordered list, or one with a duration that is none, is a fault with its reason."""
        (line,) = faults(FLAGS | {"retry_delays": given})
        assert line.startswith("retry_delays: must ")
        assert said in line

    def test_forward_events(self, file: Path) -> None:
        """forward_events is a list of the words of the application's own API, or none of them; null is all."""
        assert only(load(FLAGS | {"forward_events": "[rejected, submitted]"}, {})).forward_events == (
            "rejected",
            "submitted",
        )
        for given, read in (("[]", ()), ("null", None)):
            assert only(load(FLAGS, {"FORWARD_EVENTS": given})).forward_events == read
        flags = written(file, TURN | {"forward_events": ["sent", "rejected"]})
        assert "must be a list of words of these: sent, delivered, failed" in faults(flags)[0]


@pytest.mark.parametrize("name", ["turn_hmac_secret", "auth_token", "webhook_secret"])
def test_several_secrets(name: str) -> None:
    """Such a secret can be one text, a list of them, or a text with one in each line; none of them can be empty, and
    no fault has a value."""
    for given, expected in (
        ("one", "one"),
        (["new", "old"], ("new", "old")),
        ("new\nold\n", ("new", "old")),
        ("[a, b]", "[a, b]"),
    ):
        options = only(load({"applications": json.dumps([TURN | {name: given}])}, {}))
        assert getattr(options, name) == expected
    for wrong in ([], ["s3cret", ""], ["s3cret"] * 11, "s3cret\n\ns3cret", {"a": "s3cret"}):
        (line,) = faults({"applications": json.dumps([TURN | {name: wrong}])})
        assert name in line
        assert "s3cret" not in line
