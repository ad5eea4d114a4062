"""Options whose values stand in files of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from junebug_turn.config.option import Entry
from junebug_turn.config.secret_files import MAX_SIZE
from junebug_turn.daemon.settings import load, schema
from junebug_turn.errors import ConfigError
from tests.support.configurations import FLAGS, JUNEBUG, TURN, faults, only, written

Put = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file and gives its path."""

    def put(content: str | bytes, name: str = "value") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return put


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.yaml"


class TestLayers:
    def test_file(self, put: Put, file: Path) -> None:
        """A key of the file with _file names a file with the value: at the top, in amqp, and in an application."""
        config = {
            "sentry_dsn_file": put("https://key@sentry.example/1\n", "dsn"),
            "amqp": {"hostname": "rabbit", "password_file": put("s3cret", "password")},
            "applications": [TURN | {"turn_hmac_secret": "x", "auth_token_file": put("t0ken\n", "token")}],
        }
        del config["applications"][0]["auth_token"]  # type: ignore[index]
        settings = load(written(file, config), {})
        assert settings.daemon.sentry_dsn == "https://key@sentry.example/1"
        assert (settings.daemon.amqp.hostname, settings.daemon.amqp.password) == ("rabbit", "s3cret")
        assert only(settings).auth_token == "t0ken"

    def test_environment(self, put: Put) -> None:
        """So does a variable with _FILE, also with a prefix."""
        environ = {"VUMI_CONFIG_PREFIX": "vumi", "VUMI_AMQP_PASSWORD_FILE": put("s3cret\n")}
        assert load(FLAGS, environ).daemon.amqp.password == "s3cret"

    def test_flag(self, put: Put) -> None:
        """So does a flag with -file."""
        assert load(FLAGS | {"amqp_password_file": put("s3cret\n")}, {}).daemon.amqp.password == "s3cret"

    def test_a_stronger_layer(self, put: Put, file: Path) -> None:
        """A file counts for the layer that names it: stronger than a value below, weaker than one above."""
        below = written(file, JUNEBUG | {"amqp": {"password": "below", "username_file": put("below", "b")}})
        environ = {"AMQP_PASSWORD_FILE": put("above"), "AMQP_USERNAME": "above"}
        amqp = load(below, environ).daemon.amqp
        assert (amqp.username, amqp.password) == ("above", "above")

    @pytest.mark.parametrize("entry", schema().entries, ids=lambda entry: entry.key)
    def test_every_option(self, put: Put, entry: Entry) -> None:
        """Every option can be given so: a file with rubbish is refused, or taken, but never unknown."""
        rubbish = put("\x07 rubbish: [", "rubbish")
        for flags, environ in (
            (FLAGS | {f"{entry.name}_file": rubbish}, {}),
            (FLAGS, {f"{entry.name.upper()}_FILE": rubbish}),
        ):
            flags = {name: text for name, text in flags.items() if name != entry.name}
            with suppress(ConfigError):
                load(flags, environ)
                continue
            # One of the other application may be refused as that.
            assert not [line for line in faults(flags, environ) if ": unknown option (" in line]

    def test_yaml(self, put: Put) -> None:
        """A number, true or false, and a mapping in a file are read as YAML."""
        environ = {
            "MAX_RETRIES_FILE": put("5\n", "retries"),
            "ALLOW_EXPIRED_REPLIES_FILE": put("true", "replies"),
            "STATE_CACHE_CONFIG_FILE": put("{timeout: 60}", "cache"),
        }
        options = only(load(FLAGS, environ))
        assert (options.max_retries, options.allow_expired_replies) == (5, True)
        assert options.state_cache_config == {"timeout": "60"}

    @pytest.mark.parametrize(("content", "value"), [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), (" a ", " a ")])
    def test_newline(self, put: Put, content: str, value: str) -> None:
        """One newline at the end is taken away, and nothing else."""
        assert load(FLAGS, {"AMQP_PASSWORD_FILE": put(content)}).daemon.amqp.password == value


class TestFaults:
    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b"", "is empty"),
            (b"\n", "is empty"),
            (b"\xff", "is not UTF-8"),
            (b"x" * (MAX_SIZE + 1), f"is larger than {MAX_SIZE} bytes"),
        ],
    )
    def test_content(self, put: Put, content: bytes, fault: str) -> None:
        """A file that can't be a value is told, with its path and where it is named."""
        path = put(content)
        assert faults(FLAGS, {"AMQP_PASSWORD_FILE": path}) == [
            f"amqp.password: the file {fault} (password_file {path}, environment variable AMQP_PASSWORD_FILE)"
        ]

    def test_unreadable(self, tmp_path: Path) -> None:
        """A file that isn't there, or can't be read, is told with the reason."""
        gone = str(tmp_path / "gone")
        (line,) = faults(FLAGS | {"amqp_password_file": gone})
        assert line == (
            "amqp.password: the file can't be read: No such file or directory "
            f"(password_file {gone}, flag --amqp-password-file)"
        )
        (line,) = faults(FLAGS, {"AMQP_PASSWORD_FILE": str(tmp_path)})
        assert "Is a directory" in line

    def test_value_of_a_wrong_kind(self, put: Put) -> None:
        """What a file holds is checked as what stands in place, and a secret isn't shown."""
        path = put("amqp://u:s3cret@h:0")
        (line,) = faults(FLAGS, {"AMQP_URL_FILE": path})
        assert line.startswith("amqp_url: ")
        assert path in line
        assert "s3cret" not in line

    def test_secret_in_place_of_a_path(self) -> None:
        """A secret that is given where its file belongs isn't shown."""
        (line,) = faults(FLAGS, {"AMQP_PASSWORD_FILE": "s3cret"})
        assert "s3cret" not in line

    def test_both(self, put: Put, file: Path) -> None:
        """An option and its file in one layer are an error, in each layer."""
        path = put("b")
        for flags, environ in (
            (FLAGS | {"amqp_password": "a", "amqp_password_file": path}, {}),
            (FLAGS, {"AMQP_PASSWORD": "a", "AMQP_PASSWORD_FILE": path}),
            (written(file, JUNEBUG | {"amqp": {"password": "a", "password_file": path}}), {}),
            (written(file, JUNEBUG | {"amqp_url": "amqp://h", "amqp_url_file": path}), {}),
        ):
            (line,) = faults(flags, environ)
            assert "can't be given beside" in line

    @pytest.mark.parametrize("name", ["amqp_file", "colour_file", "amqp_password_file_file"])
    def test_of_no_option(self, file: Path, name: str) -> None:
        """There is no file of what isn't an option."""
        (line,) = faults(written(file, JUNEBUG | {name: "/dev/null"}))
        assert line.startswith(f"{name}: unknown option")

    def test_not_a_path(self, file: Path) -> None:
        """What isn't a text is no path."""
        value: Any = yaml.safe_dump(JUNEBUG | {"sentry_dsn_file": [3]})
        (line,) = faults(written(file, value))
        assert line.startswith("sentry_dsn: the file must be the path of a file")
