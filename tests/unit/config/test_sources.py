"""The configuration's layers, and the applications that come out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.registry import type_of
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.config.option import Entry
from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.daemon.settings import Settings, load, schema
from junebug_turn.errors import ConfigError
from junebug_turn.http.listening import ListenAddress
from tests.support.configurations import FLAGS, JUNEBUG, TURN, faults, only, written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


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
            http_bind=ListenAddress.of("127.0.0.1:8080"),
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
            http_bind=ListenAddress.of("127.0.0.1:8080"),
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
        assert (str(junebug.http_bind), junebug.max_retries, junebug.transport_type) == ("h:1", 7, "irc")
        assert (str(turn.http_bind), turn.max_retries, turn.transport_type) == ("h:1", 2, "ussd")
        assert turn.turn_api_url == "http://turn"
        assert junebug.event_url_timeout == turn.event_url_timeout == 3

    def test_default_kind(self, file: Path) -> None:
        """The application at the top level is the default for those in the list."""
        one, two = ({k: v for k, v in JUNEBUG.items() if k != "application"} for _ in range(2))
        two |= {"connector_name": "b", "base_url_path": "b"}
        settings = load(written(file, {"applications": [one, two]}) | {"application": "junebug"}, {})
        assert [type_of(options).name for options in settings.applications] == ["junebug", "junebug"]

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
        assert type_of(only(load(written(file, base | {"application": path}), {}))).name == name

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
        assert isinstance(only(load(FLAGS, {"AUTH_TOKEN": "x", "TURN_HMAC_SECRET": "y"})), JunebugOptions)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([entry.path[0] for entry in schema().entries])
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

    @given(entry=st.sampled_from(schema().entries), text=st.text(max_size=30))
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
