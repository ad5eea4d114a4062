"""``junebug.yml`` and what ``jb`` is given, as settings of the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from junebug_turn.daemon.channels.settings import ChannelsSettings
from junebug_turn.daemon.junebug.command_line import parse
from junebug_turn.daemon.settings import Settings, explain, load
from junebug_turn.errors import ConfigError
from tests.support.configurations import written

WHOLE: dict[str, Any] = {
    "interface": "0.0.0.0",
    "port": 8081,
    "logfile": "junebug.log",
    "sentry_dsn": "https://key@sentry.example.org/1",
    "redis": {"host": "redis.example.org", "port": 6380, "db": 1, "password": "s3cret/@", "key_prefix": "jb"},
    "amqp": {
        "hostname": "rabbit",
        "vhost": "/guest",
        "port": 5673,
        "db": 0,
        "username": "vumi",
        "password": "w0rd",
        "heartbeat": 60,
    },
    "inbound_message_ttl": 700,
    "outbound_message_ttl": 3600,
    "allow_expired_replies": True,
    "channels": {"whatsapp": "vxyowsup.whatsapp.WhatsAppTransport"},
    "replace_channels": True,
    "routers": {"mine": "some.Router"},
    "replace_routers": True,
    "plugins": [{"type": "junebug.plugins.nginx.NginxPlugin", "server_name": "_"}],
    "metric_window": 5.0,
    "logging_path": "logs",
    "log_rotate_size": 1000,
    "max_log_files": 2,
    "max_logs": 50,
    "rabbitmq_management_interface": "rabbit:15672",
}
WITHOUT_EFFECT = {
    "logfile",
    "amqp.db",
    "amqp.heartbeat",
    "channels",
    "replace_channels",
    "routers",
    "replace_routers",
    "plugins",
    "logging_path",
    "log_rotate_size",
    "max_log_files",
}


def channels_of(settings: Settings) -> ChannelsSettings:
    assert settings.channels is not None
    return settings.channels


def of_jb(*argv: str, file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    flags = {} if file is None else {"config": str(file)}
    return load(flags, environ or {}, parse(argv))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "junebug.yml"


class TestFile:
    def test_whole(self, file: Path) -> None:
        """``twistd junebug-turn --config junebug.yml`` understands the file: everything is mapped."""
        settings = load(written(file, WHOLE), {})
        amqp, channels = settings.daemon.amqp, channels_of(settings)
        assert (amqp.hostname, amqp.port, amqp.vhost) == ("rabbit", 5673, "/guest")
        assert (amqp.username, amqp.password) == ("vumi", "w0rd")
        assert settings.daemon.sentry_dsn == "https://key@sentry.example.org/1"
        assert str(channels.http_bind) == "0.0.0.0:8081"
        options, template = channels.options, channels.template
        assert (options.store, options.key_prefix, options.max_logs) == ("redis", "jb", 50)
        assert options.url == "redis://:s3cret%2F%40@redis.example.org:6380/1"
        assert (options.base_path, options.api_auth) == ("", None)
        assert options.extra_types == ["whatsapp"]
        assert options.rabbitmq_management_interface == "rabbit:15672"
        assert (template.allow_expired_replies, template.metric_window) == (True, 5)
        stored = {name: float(template.state_cache_config[name]) for name in ("inbound_ttl", "outbound_ttl")}
        assert stored == {"inbound_ttl": 700, "outbound_ttl": 3600}
        assert template.state_cache_config["url"] == options.url

    def test_warnings(self, file: Path) -> None:
        """What has no meaning here is named in one warning each, and an unknown key too, without its value."""
        warnings = load(written(file, WHOLE | {"smpp_password": "hidden"}), {}).warnings
        assert [line.split(":")[0] for line in warnings].count("smpp_password") == 1
        assert sorted(line.split(":")[0] for line in warnings) == sorted(WITHOUT_EFFECT | {"smpp_password"})
        assert not any("hidden" in line for line in warnings)
        assert all(str(file) in line for line in warnings)

    def test_defaults(self, file: Path) -> None:
        """What the file leaves out is as Junebug has it."""
        settings = load(written(file, {"port": 8080, "logfile": None, "redis": None}), {})
        channels = channels_of(settings)
        assert str(channels.http_bind) == "localhost:8080"
        assert channels.options.url == "redis://localhost:6379/0"
        assert (settings.daemon.amqp.hostname, settings.daemon.amqp.vhost) == ("127.0.0.1", "/")
        stored = channels.template.state_cache_config
        assert (stored["inbound_ttl"], stored["outbound_ttl"]) == (600, 172800)
        assert channels.template.require_from is False
        assert channels.template.forward_session_close is False
        assert settings.warnings == ()

    @pytest.mark.parametrize(
        ("values", "key"),
        [
            ({"port": "no"}, "http_bind"),
            ({"port": 1, "redis": "localhost"}, "redis"),
            ({"port": 1, "amqp": {"port": "no"}}, "amqp.port"),
            ({"redis": {"port": "s3cret"}}, "channels.url"),
            ({"inbound_message_ttl": "s3cret"}, "channels.defaults.state_cache"),
            ({"port": 1, "allow_expired_replies": "perhaps"}, "channels.defaults.allow_expired_replies"),
        ],
    )
    def test_faults(self, file: Path, values: dict[str, Any], key: str) -> None:
        """A wrong value ends the start with one line that names the file, and quotes no secret."""
        flags = written(file, values)
        with pytest.raises(ConfigError) as caught:
            _make(load(flags, {}))
        (line,) = caught.value.lines
        assert line.startswith(key)
        assert str(file) in line or key == "channels.defaults.state_cache"
        assert "s3cret" not in line

    def test_our_own_files(self, file: Path) -> None:
        """A file with any option that Junebug does not have stays one of ours, and so does vumi2's."""
        values = {"http_bind": "127.0.0.1:1", "port": 8080, "application": "junebug"}
        assert any(
            line.startswith("port: unknown option") for line in explain(written(file, values), {}).faults
        )
        shared = explain({}, {"VUMI_CONFIG_FILE": written(file, {"port": 8080})["config"]})
        assert any("application" in line for line in shared.faults)
        assert not any("channels" in line for line in shared.faults)

    def test_layers(self, file: Path) -> None:
        """The environment's and the command line's own options are stronger than the file."""
        flags = written(file, {"port": 8081, "amqp": {"hostname": "a"}}) | {"channels_base_path": "/jb"}
        settings = load(flags, {"AMQP_HOSTNAME": "b", "HTTP_BIND": "0.0.0.0:1"})
        assert settings.daemon.amqp.hostname == "b"
        assert str(channels_of(settings).http_bind) == "0.0.0.0:1"
        assert channels_of(settings).path("channels") == "/jb/channels"


class TestCommand:
    def test_without_anything(self) -> None:
        """``jb`` alone is Junebug's defaults."""
        channels = channels_of(of_jb())
        assert str(channels.http_bind) == "localhost:8080"
        assert channels.options.url == "redis://localhost:6379/0"

    def test_flags_over_file(self, file: Path) -> None:
        """The command line beats the file, key by key, and the environment."""
        written(file, WHOLE)
        argv = ("-p", "1", "-redisdb", "3", "-amqph", "b", "-ittl", "60")
        settings = of_jb(*argv, file=file, environ={"HTTP_BIND": "0.0.0.0:2", "AMQP_HOSTNAME": "c"})
        channels = channels_of(settings)
        assert str(channels.http_bind) == "0.0.0.0:1"
        assert channels.options.url == "redis://:s3cret%2F%40@redis.example.org:6380/3"
        assert (settings.daemon.amqp.hostname, settings.daemon.amqp.port) == ("b", 5673)
        stored = channels.template.state_cache_config
        assert (float(stored["inbound_ttl"]), float(stored["outbound_ttl"])) == (60, 3600)
        assert channels.template.allow_expired_replies is True

    def test_log_file(self, file: Path) -> None:
        """To ``jb`` the log file has a meaning."""
        written(file, {"logfile": "x.log"})
        assert of_jb(file=file).warnings == ()

    def test_a_flag_without_effect(self) -> None:
        """A flag without meaning is named in a warning."""
        (line,) = of_jb("-lp", "logs").warnings
        assert line.startswith("logging_path: ")
        assert "flag --logging-path" in line

    def test_a_variable_without_effect(self) -> None:
        """A variable of Junebug without meaning is named in a warning of ``jb``."""
        environ = {"JUNEBUG_REACTOR": "select", "JUNEBUG_DISABLE_LOGGING": "1"}
        lines = of_jb(environ=environ).warnings
        assert [line.split(":")[0] for line in lines] == list(environ)

    def test_docker(self) -> None:
        """docker-junebug's variables: its addresses, its types, and below /jb its login."""
        environ = {
            "JUNEBUG_INTERFACE": "0.0.0.0",
            "REDIS_HOST": "r",
            "AMQP_HOST": "a",
            "AUTH_USERNAME": "jb",
            "AUTH_PASSWORD": "a-long-s3cret-word",
            "HTTP_BIND": "0.0.0.0:9",
        }
        settings = of_jb("--redis-port", "7", environ=environ)
        channels = channels_of(settings)
        assert str(channels.http_bind) == "0.0.0.0:8080"
        assert channels.options.url == "redis://r:7/1"
        assert (settings.daemon.amqp.hostname, settings.daemon.amqp.vhost) == ("a", "/guest")
        assert channels.path("channels") == "/jb/channels"
        assert channels.options.api_auth is not None
        assert dict(channels.options.api_auth.users) == {"jb": "a-long-s3cret-word"}
        assert channels.options.extra_types == ["whatsapp", "vumigo", "dmark_ussd", "aat_ussd"]

    def test_half_a_login(self) -> None:
        """A user without a password is a fault, and no open API."""
        with pytest.raises(ConfigError, match="AUTH_PASSWORD"):
            of_jb(environ={"AUTH_USERNAME": "jb"})

    def test_own_environment(self) -> None:
        """Where a proxy takes /jb away, CHANNELS_BASE_PATH says so."""
        environ = {"AUTH_USERNAME": "jb", "AUTH_PASSWORD": "p", "CHANNELS_BASE_PATH": ""}
        assert channels_of(of_jb(environ=environ)).path("channels") == "/channels"


def _make(settings: Settings) -> None:
    """Make the daemon, since some values are only read then."""
    from twisted.internet import reactor

    from junebug_turn.daemon.build import make_daemon

    make_daemon(reactor, settings)
