"""The configuration's layers, what they accept, and the lines that tell of faults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import NOTHING
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.config import (
    AmqpOptions,
    JunebugOptions,
    Settings,
    TurnOptions,
    endpoint_description,
    load,
)
from junebug_turn.errors import ConfigError
from junebug_turn.messages import TRANSPORT_TYPES
from junebug_turn.options import DaemonOptions, Entry, all_entries

ROOT = Path(__file__).parent.parent
JUNEBUG: dict[str, Any] = {
    "application": "junebug",
    "connector_name": "sms",
    "http_bind": "127.0.0.1:8080",
    "mo_message_url": "http://rapidpro/inbound",
}
TURN: dict[str, Any] = {
    "application": "turn",
    "connector_name": "ussd",
    "http_bind": "127.0.0.1:8080",
    "vumi_api_path": "/turn",
    "default_from_addr": "8110",
    "auth_token": "t0ken",
    "turn_hmac_secret": "hm4c",
}
FLAGS: dict[str, str] = dict(JUNEBUG)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


def faults(flags: dict[str, str], environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(flags, environ or {})
    lines = list(caught.value.lines)
    assert all(line and "\n" not in line for line in lines)
    return lines


def written(file: Path, value: Any) -> dict[str, str]:
    """The flags that name ``file``, which holds ``value`` (a text as it is)."""
    file.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return {"config": str(file)}


def only(settings: Settings) -> Any:
    (application,) = settings.applications
    return application


class TestDefaults:
    def test_junebug(self) -> None:
        """Every option of the Junebug document that isn't given has its documented default."""
        settings = load(FLAGS, {})
        assert settings.daemon == DaemonOptions()
        assert settings.daemon.amqp == AmqpOptions(
            hostname="127.0.0.1", port=5672, username="guest", password="guest", vhost="/", tls=False
        )
        assert (settings.daemon.worker_concurrency, settings.daemon.sentry_dsn) == (20, None)
        assert (settings.daemon.log_level, settings.daemon.shutdown_timeout) == ("INFO", 30.0)
        assert only(settings) == JunebugOptions(
            connector_name="sms",
            http_bind="127.0.0.1:8080",
            mo_message_url="http://rapidpro/inbound",
            mo_message_url_auth_token=None,
            default_event_url=None,
            default_event_auth_token=None,
            base_url_path="",
            transport_type="sms",
            default_from_addr=None,
            allow_expired_replies=False,
            state_cache_class="vumi2.applications.junebug_message_api.junebug_state_cache.InMemorySmppCache",
            state_cache_config={},
            request_timeout=240.0,
            mo_message_url_timeout=10.0,
            event_url_timeout=10.0,
            max_retries=3,
            retry_delay_base=2,
            retry_delay_exponent=2,
        )

    def test_turn(self, file: Path) -> None:
        """Every option of the Turn document that isn't given has its documented default."""
        assert only(load(written(file, TURN), {})) == TurnOptions(
            connector_name="ussd",
            http_bind="127.0.0.1:8080",
            vumi_api_path="/turn",
            turn_api_url="",
            default_from_addr="8110",
            auth_token="t0ken",
            turn_hmac_secret="hm4c",
            request_timeout=240.0,
            mo_message_url_timeout=10.0,
            event_url_timeout=10.0,
            transport_type="sms",
            message_cache_class="MemoryMessageCache",
            message_cache_config={},
            max_retries=3,
            retry_delay_exponent=2,
            retry_delay_base=2,
            status_format="flat",
            render_interactive=True,
            duplicate_window=60.0,
        )


class TestLayers:
    def test_order(self, file: Path) -> None:
        """A flag beats the environment, which beats the file, which beats the default; mappings merge."""
        flags = written(
            file, JUNEBUG | {"amqp": {"hostname": "f", "port": 1, "username": "f"}, "max_retries": 1}
        )
        environ = {"AMQP_PORT": "2", "AMQP_USERNAME": "e", "MAX_RETRIES": "2"}
        settings = load(flags | {"amqp_username": "c"}, environ)
        amqp = settings.daemon.amqp
        assert (amqp.hostname, amqp.port, amqp.username, amqp.password) == ("f", 2, "c", "guest")
        assert only(settings).max_retries == 2

    @pytest.mark.parametrize("variable", ["JUNEBUG_TURN_CONFIG_FILE", "VUMI_CONFIG_FILE"])
    def test_file_from_the_environment(self, file: Path, variable: str) -> None:
        """Without --config the file is the one that either variable names."""
        path = written(file, JUNEBUG)["config"]
        assert only(load({}, {variable: path})).connector_name == "sms"

    def test_which_file(self, file: Path, tmp_path: Path) -> None:
        """--config goes before JUNEBUG_TURN_CONFIG_FILE, and that before VUMI_CONFIG_FILE."""
        flags = written(file, JUNEBUG)
        other = written(tmp_path / "other.yaml", JUNEBUG | {"connector_name": "other"})["config"]
        environ = {"JUNEBUG_TURN_CONFIG_FILE": other, "VUMI_CONFIG_FILE": str(tmp_path / "absent")}
        assert only(load(flags, environ)).connector_name == "sms"
        assert only(load({}, environ)).connector_name == "other"

    @pytest.mark.parametrize("variable", ["JUNEBUG_TURN_CONFIG_FILE", "VUMI_CONFIG_FILE", "--config"])
    def test_named_but_absent(self, tmp_path: Path, variable: str) -> None:
        """A file that is named but absent is an error that names it and who named it."""
        path = str(tmp_path / "absent.yaml")
        named = ({"config": path}, {}) if variable == "--config" else ({}, {variable: path})
        line = faults(FLAGS | named[0], named[1])[0]
        assert path in line
        assert variable in line
        assert "No such file" in line

    def test_prefix(self) -> None:
        """With VUMI_CONFIG_PREFIX only the variables with that prefix count."""
        environ = {"VUMI_CONFIG_PREFIX": "vumi", "VUMI_AMQP_HOSTNAME": "right", "AMQP_HOSTNAME": "wrong"}
        assert load(FLAGS, environ).daemon.amqp.hostname == "right"
        assert "VUMI_CONNECTOR_NAME" in "".join(faults({"application": "junebug"}, environ))

    def test_texts_stay_texts(self) -> None:
        """A text option's text from the environment or a flag stays as it is, number or not."""
        environ = {"CONNECTOR_NAME": "1234", "DEFAULT_FROM_ADDR": "0821"}
        flags = {key: FLAGS[key] for key in ("application", "http_bind", "mo_message_url")}
        options = only(load(flags | {"mo_message_url_auth_token": "false"}, environ))
        assert options.connector_name == "1234"
        assert options.default_from_addr == "0821"
        assert options.mo_message_url_auth_token == "false"

    @pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True), ("No", False)])
    def test_booleans_are_yaml(self, text: str, value: bool) -> None:
        """ "false" from the environment or a flag is false."""
        assert only(load(FLAGS, {"ALLOW_EXPIRED_REPLIES": text})).allow_expired_replies is value
        assert only(load(FLAGS | {"allow_expired_replies": text}, {})).allow_expired_replies is value

    def test_mappings_are_yaml(self, file: Path) -> None:
        """A mapping can be given as YAML or key by key, and merges with the file's."""
        flags = written(file, JUNEBUG | {"state_cache_config": {"timeout": 1, "max_entries": 5}})
        environ = {"STATE_CACHE_CONFIG": "{timeout: 2}", "STATE_CACHE_CONFIG_STORE_EVENT_INFO": "false"}
        options = only(load(flags, environ))
        assert options.state_cache_config == {"timeout": 2, "max_entries": 5, "store_event_info": False}
        assert load(FLAGS, {"AMQP": "{port: 7}", "AMQP_VHOST": "v"}).daemon.amqp == AmqpOptions(
            port=7, vhost="v"
        )

    def test_lists_are_yaml(self) -> None:
        """The list of applications can come from the environment."""
        assert only(load({}, {"APPLICATIONS": yaml.safe_dump([TURN])})).vumi_api_path == "/turn"

    def test_what_is_commented_out(self, file: Path) -> None:
        """A mapping without keys, and a file without any, are empty rather than wrong."""
        assert load(FLAGS | written(file, "amqp:\nstate_cache_config:\n"), {}) == load(FLAGS, {})
        assert load(FLAGS | written(file, "# nothing\n"), {}) == load(FLAGS, {})

    def test_unset(self, file: Path) -> None:
        """An optional text is switched off by null in the file or by an empty variable."""
        flags = written(file, JUNEBUG | {"default_event_url": "http://x/", "sentry_dsn": None})
        assert only(load(flags, {"DEFAULT_EVENT_URL": ""})).default_event_url is None


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


# key, value in the file, what the line says of it
WRONG: list[tuple[str, Any, str]] = [
    ("worker_concurrency", True, "got true"),
    ("worker_concurrency", 0, "1 to 65535"),
    ("worker_concurrency", "20", "got '20'"),
    ("worker_concurrency", 1.0, "whole number"),
    ("worker_concurrency", None, "got null"),
    ("amqp.port", 65536, "1 to 65535"),
    ("amqp.port", -1, "1 to 65535"),
    ("amqp.vhost", 1, "in quotes"),
    ("amqp.tls", "yes", "true or false"),
    ("amqp.username", "", "empty"),
    ("amqp", [1], "mapping"),
    ("shutdown_timeout", -1, "from 0"),
    ("log_level", "loud", "DEBUG"),
    ("log_level", 3, "DEBUG"),
    ("request_timeout", float("nan"), "seconds"),
    ("request_timeout", float("inf"), "seconds"),
    ("request_timeout", 0, "above 0"),
    ("request_timeout", True, "seconds"),
    ("event_url_timeout", -0.5, "above 0"),
    ("mo_message_url_timeout", "10", "seconds"),
    ("max_retries", -1, "0 to 100"),
    ("retry_delay_base", 1.5, "whole number"),
    ("transport_type", "pigeon", "ussd"),
    ("default_from_addr", 8110, "must be text, in quotes, got 8110"),
    ("connector_name", "", "empty"),
    ("connector_name", "x" * 201, "200 bytes"),
    ("connector_name", "amq.x", "amq."),
    ("connector_name", "a\nb", "line ends"),
    ("connector_name", ["a"], "must be text, got a list"),
    ("mo_message_url", "ftp://host/", "http:// or https://"),
    ("mo_message_url", "http:///path", "host"),
    ("mo_message_url", "http://h:x/", "host"),
    ("mo_message_url", None, "text"),
    ("default_event_url", "rapidpro/", "http:// or https://"),
    ("base_url_path", "/a b", "URL path"),
    ("base_url_path", "/a?b", "URL path"),
    ("base_url_path", "/../a", "URL path"),
    ("allow_expired_replies", "true", "true or false"),
    ("allow_expired_replies", 1, "true or false"),
    ("state_cache_config", "x", "mapping"),
    ("state_cache_config", {1: 2}, "mapping"),
    ("http_bind", "8080", "host:port"),
    ("http_bind", 8080, "in quotes"),
    ("http_bind", "127.0.0.1:65536", "port"),
    ("http_bind", "[nonsense]:80", "IPv6"),
    ("http_bind", "unix:", "unix:/path"),
    ("http_bind", "carrier:pigeon", "endpoint"),
    ("application", "rapidpro", "junebug, turn"),
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

    @pytest.mark.parametrize("entry", [e for e in all_entries() if e.option.secret], ids=lambda e: e.key)
    def test_secrets(self, file: Path, entry: Entry) -> None:
        """No secret is ever shown, whatever is wrong with it, in whatever layer it stands."""
        base = TURN if entry.owners == ("turn",) else JUNEBUG
        lines = []
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


class TestYaml:
    @pytest.mark.parametrize("text", ["0721", "12:30:00", "2001-01-01", "0x1F", "1_000", "+27 82"])
    def test_nothing_is_guessed(self, file: Path, text: str) -> None:
        """What YAML 1.1 takes for an octal, base 60 or other number, or for a date, stays as it is written."""
        flags = written(file, f"default_from_addr: {text}")
        assert only(load(FLAGS | flags, {})).default_from_addr == text

    def test_merge_keys(self, file: Path) -> None:
        """Anchors and merge keys work, and a key that is merged can be given again."""
        text = "applications:\n- &one {application: junebug, connector_name: a, base_url_path: a}\n"
        text += "- {<<: *one, connector_name: b, base_url_path: b}\n"
        flags = FLAGS | written(file, text)
        assert [(o.connector_name, o.path) for o in load(flags, {}).applications] == [
            ("a", "/a"),
            ("b", "/b"),
        ]

    def test_syntax(self, file: Path) -> None:
        """A syntax error shows signs, which tell what to mend, and no names, which may be secrets."""
        (line,) = faults(written(file, "a: {b: *s3cret}"))[:1]
        assert "found undefined alias ..." in line

    @pytest.mark.parametrize(("text", "value"), [("1e1", 10.0), ("5", 5.0), ("2.5", 2.5), (".5", 0.5)])
    def test_numbers(self, text: str, value: float) -> None:
        """Seconds can be whole numbers, fractions, or have an exponent."""
        assert only(load(FLAGS, {"EVENT_URL_TIMEOUT": text})).event_url_timeout == value


class TestValues:
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
        assert endpoint_description(http_bind) == description
        assert endpoint_description(description) == description
        assert only(load(FLAGS | {"http_bind": http_bind}, {})).http_bind == http_bind


class TestApplications:
    def test_several(self, file: Path) -> None:
        """What stands at the top level, in the environment or in a flag is the default for each application."""
        top = {"http_bind": "h:1", "max_retries": 1, "turn_api_url": "http://turn", "amqp": {"vhost": "v"}}
        one = {
            "application": "junebug",
            "connector_name": "a",
            "mo_message_url": "http://a/",
            "max_retries": 7,
        }
        two = {k: v for k, v in TURN.items() if k != "http_bind"} | {"transport_type": "ussd"}
        flags = written(file, top | {"applications": [one, two]}) | {"event_url_timeout": "3"}
        settings = load(flags, {"TRANSPORT_TYPE": "irc", "MAX_RETRIES": "2"})
        junebug, turn = settings.applications
        assert settings.daemon.amqp.vhost == "v"
        assert isinstance(junebug, JunebugOptions)
        assert isinstance(turn, TurnOptions)
        assert (junebug.http_bind, junebug.max_retries, junebug.transport_type) == ("h:1", 7, "irc")
        assert (turn.http_bind, turn.max_retries, turn.transport_type) == ("h:1", 2, "ussd")
        assert turn.turn_api_url == "http://turn"
        assert junebug.event_url_timeout == turn.event_url_timeout == 3

    def test_default_kind(self, file: Path) -> None:
        """The application at the top level is the default for those in the list."""
        one, two = ({k: v for k, v in JUNEBUG.items() if k != "application"} for _ in range(2))
        two |= {"connector_name": "b", "base_url_path": "b"}
        settings = load(written(file, {"applications": [one, two]}) | {"application": "junebug"}, {})
        assert [options.name for options in settings.applications] == ["junebug", "junebug"]

    def test_mappings_merge(self, file: Path) -> None:
        """An application's mapping is merged with the one at the top level."""
        entry = JUNEBUG | {"state_cache_config": {"timeout": 1}}
        flags = written(
            file, {"state_cache_config": {"timeout": 2, "max_entries": 3}, "applications": [entry]}
        )
        assert only(load(flags, {})).state_cache_config == {"timeout": 1, "max_entries": 3}

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("vumi2.applications.JunebugMessageApi", "junebug"),
            ("vumi2.applications.junebug_message_api.JunebugMessageApi", "junebug"),
            ("vumi2.applications.junebug_message_api.junebug_message_api.JunebugMessageApi", "junebug"),
            ("vumi2.applications.TurnChannelsApi", "turn"),
            ("vumi2.applications.turn_channels_api.TurnChannelsApi", "turn"),
            ("vumi2.applications.turn_channels_api.turn_channels_api.TurnChannelsApi", "turn"),
        ],
    )
    def test_class_paths(self, file: Path, path: str, name: str) -> None:
        """vumi2's class paths choose the application."""
        base = {"junebug": JUNEBUG, "turn": TURN}[name]
        assert only(load(written(file, base | {"application": path}), {})).name == name

    @pytest.mark.parametrize("http_bind", ["127.0.0.1:8080", "tcp:8080:interface=127.0.0.1"])
    def test_same_path(self, file: Path, http_bind: str) -> None:
        """Two applications that claim the same path on the same listener are an error that names both."""
        turn = TURN | {"vumi_api_path": "x/", "http_bind": http_bind}
        (line,) = faults(written(file, {"applications": [JUNEBUG | {"base_url_path": "/x"}, turn]}))
        assert line.startswith('vumi_api_path: "/x" on ')
        assert "applications[0] sms" in line
        assert "applications[1] ussd" in line

    def test_same_path_elsewhere(self, file: Path) -> None:
        """The same path on another listener is no clash."""
        turn = TURN | {"vumi_api_path": "", "http_bind": "127.0.0.1:8081"}
        assert len(load(written(file, {"applications": [JUNEBUG, turn]}), {}).applications) == 2

    def test_same_connector(self, file: Path) -> None:
        """Two applications with the same connector are an error that names both."""
        (line,) = faults(written(file, {"applications": [JUNEBUG, TURN | {"connector_name": "sms"}]}))
        assert line.startswith("connector_name: sms is taken twice")
        assert "applications[0] sms" in line
        assert "applications[1] sms" in line

    @pytest.mark.parametrize(
        ("key", "says"),
        [
            ("worker_concurrency", "belongs at the top level"),
            ("turn_api_url", "unknown option of application junebug"),
            ("max_retires", "did you mean max_retries?"),
        ],
    )
    def test_unknown_in_an_entry(self, file: Path, key: str, says: str) -> None:
        """A key that isn't one of the application's is an error that names file, index and connector."""
        (line,) = faults(written(file, {"applications": [TURN, JUNEBUG | {key: 1}]}))
        assert line.startswith(f"{key}: {says}") or f"; {says}" in line
        assert line.endswith(f"({file}, applications[1] sms)")

    def test_the_others_variables(self) -> None:
        """A variable that is an option of another application is no error."""
        assert only(load(FLAGS, {"AUTH_TOKEN": "x", "TURN_HMAC_SECRET": "y"})).name == "junebug"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([entry.path[0] for entry in all_entries()])
likely = st.fixed_dictionaries(
    {},
    optional={key: st.just(value) for key, value in JUNEBUG.items()}
    | {"applications": st.lists(st.dictionaries(keys, values, max_size=4), max_size=3)},
)


class TestProperties:
    @given(base=likely, more=st.dictionaries(keys | scalars, values, max_size=6))
    def test_any_mapping(self, tmp_path_factory: pytest.TempPathFactory, base: Any, more: Any) -> None:
        """Any YAML mapping gives settings or lines, never a traceback."""
        path = tmp_path_factory.getbasetemp() / "any.yaml"
        path.write_text(yaml.safe_dump(base | more, allow_unicode=True), encoding="utf-8", errors="replace")
        self._settings_or_lines({"config": str(path)}, {})

    @given(text=st.text("{}[]:,-#&*!|>'\"%@`\n ~<?=.0123abxu/", max_size=60) | st.binary(max_size=40))
    def test_any_file(self, tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
        """Any file gives settings or lines, never a traceback."""
        path = tmp_path_factory.getbasetemp() / "any.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        self._settings_or_lines({"config": str(path)}, {})

    @given(entry=st.sampled_from(all_entries()), text=st.text(max_size=30))
    def test_any_text(self, entry: Entry, text: str) -> None:
        """Any text for any option gives settings or lines, from a flag and from the environment alike."""
        as_flag = self._settings_or_lines(FLAGS | {entry.name: text}, {})
        rest = {key: value for key, value in FLAGS.items() if key != entry.name}
        as_variable = self._settings_or_lines(rest, {entry.name.upper(): text})
        if entry.owners != ("turn",):
            assert (as_flag is None) == (as_variable is None)

    def _settings_or_lines(self, flags: dict[str, str], environ: dict[str, str]) -> Settings | None:
        lines: tuple[str, ...] = ()
        try:
            return load(flags, environ)
        except ConfigError as error:
            lines = error.lines
        assert lines
        assert all(line.isprintable() and ": " in line for line in lines)
        return None


def _as_yaml(default: Any) -> Any:
    return None if default is NOTHING else default


class TestDocuments:
    def test_example_file(self) -> None:
        """The example file loads, has every key of the daemon and the Junebug API, and tells the real defaults."""
        path = ROOT / "etc" / "junebug-turn.yaml"
        options = only(load({"config": str(path)}, {}))
        assert (options.connector_name, options.base_url_path) == ("demo", "/channels/demo")
        text = path.read_text()
        live = yaml.safe_load(text)
        for entry in all_entries():
            if not {"daemon", "junebug"} & set(entry.owners) or entry.key == "application":
                continue
            *groups, name = entry.path
            shown = re.findall(rf"^ *(?:# )?{name}: *(.*)$", text, re.MULTILINE)
            commented = re.findall(rf"^ *# {name}: (.*)$", text, re.MULTILINE)
            assert len(shown) == 1, entry.key
            if commented:
                assert yaml.safe_load(commented[0]) == _as_yaml(entry.default), entry.key
            else:
                assert not groups
                at = live if name in live else live["applications"][0]
                assert at[name] != entry.default, f"{entry.key} is at its default: comment it out"

    def test_options_page(self) -> None:
        """docs/options.md has a row for every option with its type, default, variable and meaning, and no other."""
        text = (ROOT / "docs" / "options.md").read_text()
        tables = text[text.index("## Every option") :]
        rows = [line for line in tables.splitlines() if line.startswith("| `")]
        assert rows == [_row(entry) for owners in OWNERS for entry in all_entries() if entry.owners == owners]


OWNERS = [("daemon",), ("junebug", "turn"), ("junebug",), ("turn",)]


def _row(entry: Entry) -> str:
    words = {NOTHING: "required", None: "none", "": "empty", True: "`true`", False: "`false`"}
    hashable = not isinstance(entry.default, dict)
    default = words.get(entry.default, f"`{entry.default}`") if hashable else "`{}`"
    option = entry.option
    return f"| `{entry.key}` | {option.kind.name} | {default} | `{entry.name.upper()}` | {option.help} |"
