"""What is refused, in which words, and that no secret is among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import frozen

from junebug_turn.config import types
from junebug_turn.config.option import Entry, option
from junebug_turn.config.resolver import read_mapping
from junebug_turn.daemon.settings import load, schema
from junebug_turn.errors import ConfigError
from tests.support.configurations import FLAGS, JUNEBUG, TURN, faults, written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


# key, value in the file, what the line says of it
WRONG: list[tuple[str, Any, str]] = [
    ("worker_concurrency", True, "got true"),
    ("worker_concurrency", 0, "1 to 65535"),
    ("worker_concurrency", "many", "got 'many'"),
    ("worker_concurrency", "020", "got '020'"),
    ("worker_concurrency", 1.5, "whole number"),
    ("worker_concurrency", None, "got null"),
    ("amqp.port", 65536, "1 to 65535"),
    ("amqp.port", -1, "1 to 65535"),
    ("amqp.vhost", [1], "must be text"),
    ("amqp.tls", "maybe", "true or false"),
    ("amqp.username", "", "empty"),
    ("amqp.hostname", "rabbit:0", "host:port"),
    ("amqp.hostname", [["rabbit"]], "host:port"),
    ("amqp.hostname", "rabbit,", "host:port"),
    ("amqp.hostname", [], "host:port"),
    ("amqp.hostname", "amqp://u:s3cret@rabbit", "got a URL"),
    ("http_bind", "http://u:s3cret@rabbit", "got a URL"),
    ("amqp", [1], "mapping"),
    ("shutdown_timeout", -1, "from 0"),
    ("log_level", "loud", "DEBUG"),
    ("log_level", 3, "DEBUG"),
    ("request_timeout", float("nan"), "seconds"),
    ("request_timeout", float("inf"), "seconds"),
    ("request_timeout", 0, "above 0"),
    ("request_timeout", True, "seconds"),
    ("event_url_timeout", -0.5, "above 0"),
    ("mo_message_url_timeout", "10 s", "seconds"),
    ("max_retries", -1, "0 to 100"),
    ("retry_delay_base", 1.5, "whole number"),
    ("transport_type", "pigeon", "ussd"),
    ("default_from_addr", [8110], "must be text, got a list"),
    ("amqp.hostname", "[rabbit", "host:port"),
    ("connector_name", "", "empty"),
    ("connector_name", "x" * 201, "200 bytes"),
    ("connector_name", "amq.x", "amq."),
    ("connector_name", "a\nb", "line ends"),
    ("connector_name", ["a"], "must be text, got a list"),
    ("mo_message_url", "ftp://host/", "http:// or https://"),
    ("mo_message_url", "http:///path", "host"),
    ("mo_message_url", "http://h:x/", "host"),
    ("connector_name", None, "text"),
    ("default_event_url", "rapidpro/", "http:// or https://"),
    ("base_url_path", "/a b", "URL path"),
    ("base_url_path", "/a?b", "URL path"),
    ("base_url_path", "/../a", "URL path"),
    ("allow_expired_replies", "yes, please", "true or false"),
    ("allow_expired_replies", 1, "true or false"),
    ("state_cache_config", "x", "mapping"),
    ("state_cache_config", {None: 2}, "mapping"),
    ("http_bind", "8080", "host:port"),
    ("http_bind", 8080, "host:port"),
    ("http_bind", "127.0.0.1:65536", "port"),
    ("http_bind", "[nonsense]:80", "IPv6"),
    ("http_bind", "unix:", "unix:/path"),
    ("http_bind", "carrier:pigeon", "endpoint"),
    ("application", "textit", "junebug, turn"),
    ("application", ["junebug"], "junebug, turn"),
    ("applications", [], "list of mappings"),
    ("applications", ["junebug"], "list of mappings"),
    ("applications", {"application": "junebug"}, "list of mappings"),
    ("colour", 1, "unknown option"),
    ("max_retires", 1, "did you mean max_retries?"),
    ("amqp.prot", 1, "did you mean amqp.port?"),
    ("turn_api_url", "http://turn/", "unknown option of application junebug"),
]


class TestFaults:
    @pytest.mark.parametrize(("key", "value", "says"), WRONG)
    def test_value_in_the_file(self, file: Path, key: str, value: Any, says: str) -> None:
        """A value that is wrong is one line, which names the key, what is wanted, and the file."""
        group, _, name = key.rpartition(".")
        flags = written(file, JUNEBUG | ({group: {name: value}} if group else {key: value}))
        (line,) = faults(flags)
        assert line.startswith(f"{key}: ")
        assert says in line
        assert line.endswith(f"({file})")

    @pytest.mark.parametrize(
        ("flags", "environ", "source"),
        [
            ({}, {"AMQP_PORT": "x"}, "environment variable AMQP_PORT"),
            ({"amqp_port": "x"}, {}, "flag --amqp-port"),
            ({}, {"AMQP_PORT": "05672"}, "environment variable AMQP_PORT"),
            ({"amqp_port": "[1"}, {}, "flag --amqp-port"),
            ({"amqp_port": ""}, {}, "flag --amqp-port"),
        ],
    )
    def test_source(self, flags: dict[str, str], environ: dict[str, str], source: str) -> None:
        """A wrong value from the environment or from a flag is told with the variable's or the flag's name."""
        (line,) = faults(FLAGS | flags, environ)
        assert line.startswith("amqp.port: ")
        assert line.endswith(f"({source})")

    def test_unknown_flag(self) -> None:
        """An option that isn't known is an error as a flag, and nothing to us in the environment."""
        (line,) = faults(FLAGS | {"colour": "red"}, {"COLOUR": "red"})
        assert line == "colour: unknown option (flag --colour)"

    @pytest.mark.parametrize("key", ["connector_name", "http_bind", "mo_message_url"])
    def test_missing_from_junebug(self, file: Path, key: str) -> None:
        """A required option that is missing is a line that says where it can be given."""
        (line,) = faults(written(file, {k: v for k, v in JUNEBUG.items() if k != key}))
        assert line.startswith(f"{key}: required by application junebug")
        assert str(file) in line
        assert key.upper() in line
        assert f"--{key.replace('_', '-')}" in line

    @pytest.mark.parametrize(
        "key", ["connector_name", "http_bind", "default_from_addr", "auth_token", "turn_hmac_secret"]
    )
    def test_missing_from_turn(self, file: Path, key: str) -> None:
        """The options that the Turn document calls required are required, and can't be empty."""
        (line,) = faults(written(file, {k: v for k, v in TURN.items() if k != key}))
        assert line.startswith(f"{key}: required by application turn")
        (line,) = faults(written(file, TURN | {key: ""}))
        assert line.startswith(f"{key}: must not be empty")

    def test_no_application(self) -> None:
        """A configuration without any application is an error."""
        (line,) = faults({})
        assert line.startswith("application: required")

    def test_all_at_once(self, file: Path) -> None:
        """All faults of all layers are told at once, each once."""
        bad = JUNEBUG | {"log_level": "x", "amqp": {"port": 0, "x": 1}, "connector_name": ""}
        flags = written(
            file, {"colour": 1, "max_retries": -1, "applications": [bad, TURN | {"auth_token": ""}]}
        )
        keys = [line.split(":")[0] for line in faults(flags, {"SHUTDOWN_TIMEOUT": "x"})]
        assert keys == [
            "colour",
            "shutdown_timeout",
            "amqp",
            "log_level",
            "connector_name",
            "max_retries",
            "auth_token",
        ]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("a: [1", "line 1, column 6: while parsing a flow sequence, expected ',' or ']'"),
            ("a: 1\nb: 2\na: 3", "line 3, column 1: the key a stands twice"),
            ("amqp: {port: 1, port: 2}", "the key port stands twice"),
            ("- 1", "must be a mapping"),
            ("text", "must be a mapping"),
            ("a: !!int x", "doesn't fit its tag"),
            ("a: 1\n--- 2", "single document"),
            ("a: \x00", "not YAML text"),
            ("a: " + "[" * 5000, "nested too deeply"),
            ("auth_token: *s3cret", "undefined alias ..."),
            ("auth_token: !s3cret x", "line 1"),
        ],
    )
    def test_unreadable(self, file: Path, text: str, says: str) -> None:
        """A file that isn't one mapping in YAML is one line with the place, and without what stands there."""
        line = faults(FLAGS | written(file, text))[0]
        assert line.startswith(f"config: {file}: ")
        assert says in line
        assert "s3cret" not in line
        assert line.endswith("(flag --config)")

    def test_not_utf8(self, file: Path) -> None:
        """A file in another encoding is one line."""
        file.write_bytes(b"connector_name: caf\xe9\n")
        assert "not YAML text" in faults(FLAGS | {"config": str(file)})[0]

    def test_a_folder(self, tmp_path: Path) -> None:
        """A folder in the file's place is one line."""
        assert "directory" in faults(FLAGS | {"config": str(tmp_path)})[0]

    @pytest.mark.parametrize("entry", [e for e in schema().entries if e.option.secret], ids=lambda e: e.key)
    def test_secrets(self, file: Path, entry: Entry) -> None:
        """No secret is ever shown, whatever is wrong with it, in whatever layer it stands."""
        base = TURN if entry.owners == ("turn",) else JUNEBUG
        lines: list[str] = []
        for value in ("ftp://u:s3cret@host s3cret\n", ["s3cret"], {"k": "s3cret", 1: "s3cret"}):
            at: Any = value
            for key in reversed(entry.path):
                at = {key: at}
            with pytest.raises(ConfigError) as caught:
                load(written(file, base | at | {"max_retries": -1}), {entry.name.upper() + "X": "s3cret"})
            lines += caught.value.lines
            with pytest.raises(ConfigError) as caught:
                load(written(file, base | {"max_retries": -1}), {entry.name.upper(): "[s3cret\n"})
            lines += caught.value.lines
        assert not [line for line in lines if "s3cret" in line]

    def test_no_secret_in_a_repr(self, file: Path) -> None:
        """A settings object that is printed shows no secret."""
        url = "http://u:s3cret@h/"
        junebug = JUNEBUG | {
            "mo_message_url": url,
            "mo_message_url_auth_token": "s3cret",
            "default_event_url": url,
            "default_event_auth_token": "s3cret",
            "state_cache_config": {"url": url},
        }
        turn = TURN | {"auth_token": "s3cret", "turn_hmac_secret": "s3cret", "turn_api_url": url}
        settings = load(
            written(file, {"applications": [junebug, turn], "sentry_dsn": url}), {"AMQP_PASSWORD": "s3cret"}
        )
        assert "s3cret" not in repr(settings)


@frozen(kw_only=True)
class Plain:
    """As a user of middlewares writes one, but for the first option."""

    url: str = option(types.URL, "Where.", secret=True)
    signature: str = "x"
    times: int = 1
    loud: bool = False
    names: list[str] = attrs.Factory(list)
    weight: float = 1.0


# The same where annotations aren't texts.
Evaluated: Any = attrs.make_class(
    "Evaluated",
    {
        "signature": attrs.field(type=str, default="x"),
        "times": attrs.field(type=int, default=1),
        "names": attrs.field(type=list[str], factory=list),
    },
    frozen=True,
)


class TestReadMapping:
    def test_values(self) -> None:
        """Options are read by their types, or by their annotations; one of another type is taken as it is."""
        read = read_mapping(Plain, {"url": "http://h/", "signature": "a\nb", "names": ["a"], "weight": "2"})
        assert read == Plain(url="http://h/", signature="a\nb", names=["a"], weight="2")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("values", "line"),
        [
            (
                {"url": "ftp://s3cret/"},
                "url: must be a URL that begins with http:// or https:// and has a host",
            ),
            ({}, "url: required option"),
            ({"signature": 1}, "signature: must be text"),
            ({"times": True}, "times: must be a whole number"),
            ({"loud": "very"}, "loud: must be true or false"),
            ({"names": "a"}, "names: must be a list of texts"),
            (
                {"colour": "s3cret"},
                "colour: unknown option; known are url, signature, times, loud, names, weight",
            ),
        ],
    )
    def test_faults(self, values: dict[str, Any], line: str) -> None:
        """Each fault is a line with the prefix, and no line has the value."""
        given = values if line.startswith("url") else {"url": "http://h/"} | values
        with pytest.raises(ConfigError) as caught:
            read_mapping(Plain, given, "state_cache_config.")
        assert caught.value.lines == (f"state_cache_config.{line}",)

    def test_evaluated_annotations(self) -> None:
        """Annotations count also in a module without ``from __future__ import annotations``."""
        with pytest.raises(ConfigError) as caught:
            read_mapping(Evaluated, {"signature": 1, "times": "one", "names": 1, "x": 1}, owner="Evaluated")
        assert caught.value.lines == (
            "x: unknown option of Evaluated",
            "signature: must be text",
            "times: must be a whole number",
            "names: must be a list of texts",
        )


@pytest.mark.parametrize("value", ["tcp://10.96.0.7:5672", "udp://[fd00::1]:5672"])
def test_service_link(value: str) -> None:
    """A variable that Kubernetes made of a Service is named as such, with the remedy; a value of a person's is not."""
    (line,) = faults(FLAGS, {"AMQP_PORT": value})
    assert line.startswith("amqp.port: ")
    assert "environment variable AMQP_PORT" in line
    assert line.endswith("set enableServiceLinks: false for the pod")
    assert not any("enableServiceLinks" in line for line in faults(FLAGS | {"amqp_port": value}))
    assert not any("enableServiceLinks" in line for line in faults(FLAGS, {"AMQP_PORT": "many"}))
