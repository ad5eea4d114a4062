"""The settings of the daemon and of its applications: defaults, several applications, clashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.applications.registry import type_of
from junebug_turn.applications.turn.options import TurnOptions
from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.daemon.settings import load
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
        assert only(load(flags, {})).state_cache_config == {"timeout": "1", "max_entries": "3"}

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

    @pytest.mark.parametrize("queue", ["sms", "ussd", "q"])
    def test_same_queue(self, file: Path, queue: str) -> None:
        """An amqp_queue with the name of a connector, which would be its own sender, or of another amqp_queue is an
        error that names both."""
        first, second = (
            JUNEBUG | {"amqp_queue": "q"},
            JUNEBUG | {"connector_name": "ussd", "amqp_queue": queue},
        )
        other = second | {"base_url_path": "/ussd"}
        (line,) = faults(written(file, {"applications": [first, other]}))
        assert line.startswith(f"amqp_queue: {queue} is taken twice (")
        assert line.endswith(f"; amqp_queue, {file}, applications[1] ussd)")

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


class TestSharedFile:
    """A file that VUMI_CONFIG_FILE names may be another worker's too."""

    UNKNOWN = JUNEBUG | {"turn_api_url": "http://t", "smpp_host": "s3cret", "amqp": {"host": "rabbit"}}

    def test_unknown_keys(self, file: Path) -> None:
        """There an unknown key is a warning with its place, without its value."""
        written(file, self.UNKNOWN)
        settings = load({}, {"VUMI_CONFIG_FILE": str(file)})
        assert only(settings).connector_name == "sms"
        assert sorted(settings.warnings) == [
            f"amqp.host: unknown option; did you mean amqp.hostname? ({file})",
            f"smpp_host: unknown option ({file})",
            f"turn_api_url: unknown option of application junebug ({file})",
        ]

    def test_in_applications(self, file: Path) -> None:
        """So is one in the list of applications; an option that belongs at the top level is an error there."""
        entry = JUNEBUG | {"smpp_host": "s3cret"}
        written(file, {"applications": [entry], "colour": 1})
        settings = load({}, {"VUMI_CONFIG_FILE": str(file)})
        assert [line.partition(":")[0] for line in settings.warnings] == ["colour", "smpp_host"]
        written(file, {"applications": [entry | {"amqp": {"port": 1}}]})
        (line,) = faults({}, {"VUMI_CONFIG_FILE": str(file)})
        assert line.startswith("amqp: belongs at the top level")

    @pytest.mark.parametrize("named", ["flag", "variable"])
    def test_our_file(self, file: Path, named: str) -> None:
        """With --config or JUNEBUG_TURN_CONFIG_FILE an unknown key is an error."""
        flags = written(file, self.UNKNOWN)
        environ = {"VUMI_CONFIG_FILE": str(file)}
        if named == "variable":
            flags, environ = {}, environ | {"JUNEBUG_TURN_CONFIG_FILE": str(file)}
        assert len(faults(flags, environ)) == 3

    def test_wrong_values(self, file: Path) -> None:
        """A wrong value is an error there, too."""
        written(file, JUNEBUG | {"max_retries": "many"})
        (line,) = faults({}, {"VUMI_CONFIG_FILE": str(file)})
        assert line.startswith("max_retries: ")


def test_auth_token_null(file: Path) -> None:
    """auth_token may be null, as old files have it; left out or empty it is an error."""
    assert only(load(written(file, TURN | {"auth_token": None}), {})).auth_token is None
    for wrong in (TURN | {"auth_token": ""}, {k: v for k, v in TURN.items() if k != "auth_token"}):
        (line,) = faults(written(file, wrong))
        assert line.startswith("auth_token: ")


class TestSecrets:
    @pytest.mark.parametrize("as_flag", [False, True])
    def test_shadowed(self, file: Path, as_flag: bool) -> None:
        """A secret of an entry of applications that the environment or a flag gives too is an error that names both:
        who sets a variable to replace a secret must not be left with the old one."""
        flags = written(file, {"applications": [JUNEBUG, TURN]})
        environ = {} if as_flag else {"TURN_HMAC_SECRET": "s3cret"}
        flags |= {"turn_hmac_secret": "s3cret"} if as_flag else {}
        given = "flag --turn-hmac-secret" if as_flag else "environment variable TURN_HMAC_SECRET"
        assert faults(flags, environ) == [
            f"turn_hmac_secret: given twice, and it can't be both ({file}, applications[1] ussd; {given}): take one "
            "of them away"
        ]

    def test_shadowed_by_files(self, file: Path, tmp_path: Path) -> None:
        """It is so whether the secret or the file that has it is given, on either side."""
        secret = tmp_path / "secret"
        secret.write_text("s3cret")
        turn = {k: v for k, v in TURN.items() if k != "turn_hmac_secret"}
        for entry, environ in (
            (turn | {"turn_hmac_secret_file": str(secret)}, {"TURN_HMAC_SECRET": "x"}),
            (TURN, {"TURN_HMAC_SECRET_FILE": str(secret)}),
        ):
            (line,) = faults(written(file, {"applications": [entry]}), environ)
            assert line.startswith("turn_hmac_secret: given twice")
            assert "s3cret" not in line

    def test_shadowed_in_a_mapping(self, file: Path) -> None:
        """The URL of a cache may have a password, and is a secret like the others; the rest of the mapping isn't."""
        entry = JUNEBUG | {"state_cache_config": {"url": "redis://:s3cret@a/", "timeout": 1}}
        flags = written(file, {"applications": [entry]})
        assert only(load(flags, {"STATE_CACHE_CONFIG_TIMEOUT": "2"})).state_cache_config["timeout"] == "1"
        (line,) = faults(flags, {"STATE_CACHE_CONFIG_URL": "redis://b/"})
        assert line.startswith("state_cache_config.url: given twice")
        assert "s3cret" not in line

    def test_not_shadowed(self, file: Path) -> None:
        """The environment is stronger than the top level of the file, and a default for entries without the secret;
        what is no secret may differ for one application."""
        turn = {k: v for k, v in TURN.items() if k != "turn_hmac_secret"}
        flags = written(file, {"turn_hmac_secret": "file", "applications": [turn]})
        environ = {"TURN_HMAC_SECRET": "env", "CONNECTOR_NAME": "other", "HTTP_BIND": "h:1"}
        options = only(load(flags, environ))
        assert (options.turn_hmac_secret, options.connector_name) == ("env", "ussd")
        assert only(load(written(file, TURN), environ)).turn_hmac_secret == "env"

    def test_a_variable_without_effect(self, file: Path) -> None:
        """A variable is a default for the entries of applications: where each of them has a value of its own, the
        variable has no effect, and a warning says so."""
        flags = written(file, {"applications": [JUNEBUG, TURN]})
        (line,) = load(flags, {"CONNECTOR_NAME": "other"}).warnings
        assert line.startswith("connector_name: the environment variable CONNECTOR_NAME has no effect")
        # A default for one of them, the same value, the top level, a flag: nothing to say.
        assert load(flags, {"BASE_URL_PATH": "/other", "HTTP_BIND": str(JUNEBUG["http_bind"])}).warnings == ()
        assert load(flags | {"connector_name": "other"}, {}).warnings == ()
        assert load(written(file, JUNEBUG), {"CONNECTOR_NAME": "other"}).warnings == ()

    @pytest.mark.parametrize("key", ["turn_hmac_secret", "auth_token"])
    @pytest.mark.parametrize(
        ("http_bind", "refused"),
        [
            ("127.0.0.1:8080", False),
            ("localhost:8080", False),
            ("[::1]:8080", False),
            ("unix:/run/x", False),
            ("0.0.0.0:8080", True),
            (":8080", True),
            ("10.0.0.1:8080", True),
            ("systemd:domain=INET:index=0", True),
        ],
    )
    def test_published(self, file: Path, key: str, http_bind: str, refused: bool) -> None:
        """A secret that stood in the example file is refused where other machines can reach the address."""
        published = {"turn_hmac_secret": "demo-turn-hmac-secret", "auth_token": "demo-turn-token"}[key]
        flags = written(file, TURN | {key: published, "http_bind": http_bind})
        if not refused:
            load(flags, {})
            return
        (line,) = faults(flags)
        assert line.startswith(
            f"{key}: this one is published in an example, and other machines can reach {http_bind}"
        )
        assert published not in line


class TestOperatorsAddress:
    @pytest.mark.parametrize(
        ("bind", "refused"),
        [
            ("127.0.0.1:8082", False),
            ("localhost:8082", False),
            ("[::1]:8082", False),
            ("unix:/run/x", False),
            ("0.0.0.0:8082", True),
            (":8082", True),
            ("10.0.0.1:8082", True),
            ("systemd:domain=INET:index=0", True),
        ],
    )
    def test_authentication(self, bind: str, refused: bool) -> None:
        """admin_auth is required where the address is not loopback or a socket file."""
        load(FLAGS | {"admin_bind": bind, "admin_auth": "{tokens: [t0ken]}"}, {})
        if not refused:
            load(FLAGS | {"admin_bind": bind}, {})
            return
        (line,) = faults(FLAGS | {"admin_bind": bind})
        assert line.startswith(f"admin_auth: required, since other machines may reach the admin_bind {bind}:")
        assert line.endswith("(flag --admin-bind)")

    def test_address_of_its_own(self) -> None:
        """The operators' address is none of the addresses of applications, in whatever spelling."""
        (line,) = faults(FLAGS | {"admin_bind": "tcp:8080:interface=127.0.0.1"})
        assert line.startswith(
            "admin_bind: tcp:8080:interface=127.0.0.1 is the http_bind of an application too"
        )
