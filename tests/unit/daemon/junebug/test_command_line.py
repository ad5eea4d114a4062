"""The flags of ``jb``, and docker-junebug's variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from junebug_turn.daemon.junebug.command_line import log_file, login, parse, variables

FLAGS = {
    ("--config", "-c"): "config",
    ("--interface", "-i"): "interface",
    ("--port", "-p"): "port",
    ("--log-file", "-l"): "logfile",
    ("--sentry-dsn", "-sd"): "sentry_dsn",
    ("--redis-host", "-redish"): "redis.host",
    ("--redis-port", "-redisp"): "redis.port",
    ("--redis-db", "-redisdb"): "redis.db",
    ("--redis-password", "-redispass"): "redis.password",
    ("--amqp-host", "-amqph"): "amqp.hostname",
    ("--amqp-vhost", "-amqpvh"): "amqp.vhost",
    ("--amqp-port", "-amqpp"): "amqp.port",
    ("--amqp-user", "-amqpu"): "amqp.username",
    ("--amqp-password", "-amqppass"): "amqp.password",
    ("--inbound-message-ttl", "-ittl"): "inbound_message_ttl",
    ("--outbound-message-ttl", "-ottl"): "outbound_message_ttl",
    ("--replace-channels", "-rch"): "replace_channels",
    ("--replace-routers",): "replace_routers",
    ("--metric-window", "-mw"): "metric_window",
    ("--logging-path", "-lp"): "logging_path",
    ("--log-rotate-size", "-lrs"): "log_rotate_size",
    ("--max-log-files", "-mlf"): "max_log_files",
    ("--max-logs", "-ml"): "max_logs",
    ("--rabbitmq-management-interface", "-rmi"): "rabbitmq_management_interface",
}


class TestFlags:
    @pytest.mark.parametrize(
        ("flag", "option"), [(flag, option) for flags, option in FLAGS.items() for flag in flags]
    )
    def test_flags(self, flag: str, option: str) -> None:
        """``jb`` takes each of Junebug's flags, in both forms."""
        (found,) = parse([flag, "7"]).items()
        assert (found[0], found[1].value) == (option, "7")
        assert found[1].source.startswith("flag --")

    @pytest.mark.parametrize("flag", ["--channels", "-ch", "--routers"])
    def test_pairs(self, flag: str) -> None:
        """Types are given as type:class, several times; what is neither ends the process with its line."""
        (found,) = parse([flag, "a:x.Y", flag, "b:z.W"]).values()
        assert found.value == {"a": "x.Y", "b": "z.W"}
        with pytest.raises(SystemExit):
            parse([flag, "a"])

    @pytest.mark.parametrize("flag", ["--allow-expired-replies", "-aer"])
    def test_allow_expired_replies(self, flag: str) -> None:
        """The flag has no value; without it the file counts."""
        assert parse([flag])["allow_expired_replies"].value == "true"
        assert parse([]) == {}

    def test_plugins(self) -> None:
        """Plugins are given as JSON, several times."""
        assert parse(["--plugin", "{}", "-pl", "{}"])["plugins"].value == ["{}", "{}"]

    def test_unknown(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A flag that Junebug does not have ends the process with status 2 and its name."""
        with pytest.raises(SystemExit) as caught:
            parse(["--nonsense", "1"])
        assert caught.value.code == 2
        assert "--nonsense" in capsys.readouterr().err


class TestLogFile:
    def test_order(self, tmp_path: Path) -> None:
        """The flag goes before the file; without either, or with a file that can't be read, there is none."""
        file = tmp_path / "junebug.yml"
        file.write_text("logfile: /var/log/junebug.log")
        assert log_file(["-c", str(file)]) == "/var/log/junebug.log"
        assert log_file(["-c", str(file), "-l", "x.log"]) == "x.log"
        assert log_file([]) is None
        assert log_file(["-c", str(tmp_path / "absent")]) is None
        file.write_text("logfile: null")
        assert log_file(["-c", str(file)]) is None


class TestVariables:
    def test_defaults(self) -> None:
        """Where a host is given, the rest of its address has docker-junebug's default."""
        found = variables({"REDIS_HOST": "r", "AMQP_HOST": "a", "JUNEBUG_INTERFACE": "0.0.0.0"})
        assert {option: given.value for option, given in found.items()} == {
            "interface": "0.0.0.0",
            "port": "8080",
            "redis.host": "r",
            "redis.port": "6379",
            "redis.db": "1",
            "amqp.hostname": "a",
            "amqp.port": "5672",
            "amqp.vhost": "/guest",
            "amqp.username": "guest",
            "amqp.password": "guest",
        }

    def test_all(self) -> None:
        """Each variable counts, with its name as the source."""
        found = variables(
            {
                "JUNEBUG_INTERFACE": "::",
                "JUNEBUG_PORT": "1",
                "REDIS_HOST": "r",
                "REDIS_PORT": "2",
                "REDIS_DB": "3",
                "AMQP_HOST": "a",
                "AMQP_PORT": "4",
                "AMQP_VHOST": "/v",
                "AMQP_USER": "u",
                "AMQP_PASSWORD": "p",
                "RABBITMQ_MANAGEMENT_INTERFACE": "m:15672",
                "ALLOW_EXPIRED_REPLIES": "True",
            }
        )
        assert [given.value for given in found.values()] == (
            ["::", "1", "r", "2", "3", "a", "4", "/v", "u", "p", "m:15672", "true"]
        )
        assert found["redis.db"].source == "environment variable REDIS_DB"

    def test_without_a_host(self) -> None:
        """A port without its host is another program's, as with docker-junebug; so is an empty variable."""
        assert variables({"REDIS_PORT": "tcp://10.0.0.1:6379", "JUNEBUG_PORT": "1", "AMQP_HOST": ""}) == {}
        assert variables({"ALLOW_EXPIRED_REPLIES": "false"}) == {}

    def test_login(self) -> None:
        """AUTH_USERNAME and AUTH_PASSWORD are a user; one alone is a fault that names the other, not an open API."""
        assert login({"AUTH_USERNAME": "jb", "AUTH_PASSWORD": "s"}) == ({"users": {"jb": "s"}}, [])
        assert login({}) == (None, [])
        auth, (line,) = login({"AUTH_USERNAME": "jb"})
        assert auth is None
        assert "AUTH_PASSWORD" in line
