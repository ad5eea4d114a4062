"""The layers of a configuration: file, environment and flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.config.option import Entry
from junebug_turn.daemon.settings import Settings, load, schema
from junebug_turn.errors import ConfigError
from tests.support.configurations import FLAGS, JUNEBUG, TURN, faults, only, written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


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

    def test_two_variables(self, file: Path) -> None:
        """A variable that names a file which is not read is a warning: the image, or somebody else, may have set the
        other one."""
        flags = written(file, JUNEBUG)
        other = {"VUMI_CONFIG_FILE": "/etc/other.yaml"}
        both = other | {"JUNEBUG_TURN_CONFIG_FILE": flags["config"]}
        (line,) = load({}, both).warnings
        assert line.startswith(
            "config: without effect: VUMI_CONFIG_FILE, since JUNEBUG_TURN_CONFIG_FILE names the file"
        )
        (line,) = load(flags, both).warnings
        assert line.startswith(
            "config: without effect: JUNEBUG_TURN_CONFIG_FILE and VUMI_CONFIG_FILE, since the flag"
        )
        assert (
            load(flags, {}).warnings == load({}, {"JUNEBUG_TURN_CONFIG_FILE": flags["config"]}).warnings == ()
        )

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
        assert options.state_cache_config == {"timeout": "2", "max_entries": "5", "store_event_info": "false"}
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
        if {"daemon", "junebug"} & set(entry.owners):
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
