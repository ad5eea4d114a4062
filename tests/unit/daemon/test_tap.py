"""The command ``twistd junebug-turn``: its flags, its help, and how a start ends that can't be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.application.service import Application, IService, Service
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from junebug_turn.daemon.settings import Settings, schema
from junebug_turn.daemon.tap import Options, makeService
from junebug_turn.errors import ConfigError
from junebug_turn.telemetry import tracing
from junebug_turn.telemetry.context import debugging

ROOT = Path(__file__).parents[3]
COMPLETE = {
    "application": "junebug",
    "connector-name": "sms",
    "http-bind": "127.0.0.1:8080",
    "mo-message-url": "http://127.0.0.1:8081/",
}


def parsed(*arguments: str) -> Options:
    """The options below those of a twistd that logs to standard output."""
    options = Options()
    options.parent = usage.Options()
    options.parent["logfile"] = "-"
    options.parseOptions(list(arguments))
    return options


def complete(**more: str) -> list[str]:
    return [f"--{flag}={text}" for flag, text in (COMPLETE | more).items()]


def twistd(
    folder: Path, *arguments: str, before: tuple[str, ...] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the real twistd, in a folder that isn't the project's."""
    environ = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]} | environ
    program = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    return subprocess.run(
        [sys.executable, "-c", program, *before, "junebug-turn", *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SIGNALS: dict[str, Callable[[], None]] = {}


class Recorded(Service):
    """Stands in for the daemon, whose parts have tests of their own."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self.reactor = reactor
        self.settings = settings

    def reload(self) -> None:
        """For SIGHUP."""

    def renew_secrets(self, read: Callable[[], Settings]) -> None:
        self.renewed = read()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """The services that ``makeService`` made."""
    services: list[Recorded] = []

    def make_daemon(reactor: Any, settings: Settings, *, descriptors: int) -> Recorded:
        services.append(Recorded(reactor, settings))
        return services[-1]

    module = ModuleType("junebug_turn.daemon.build")
    module.make_daemon = make_daemon  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "junebug_turn.daemon.build", module)
    # This process's collector, limits and signals are not for makeService to change.
    monkeypatch.setattr("junebug_turn.daemon.process.raise_descriptor_limit", lambda: 1024)
    monkeypatch.setattr("junebug_turn.daemon.process.tune_garbage_collector", lambda: None)
    monkeypatch.setattr("junebug_turn.daemon.tap.collect_garbage_rarely", lambda: None)
    monkeypatch.setattr(
        "junebug_turn.daemon.process.call_on_signals", lambda *_, **calls: SIGNALS.update(calls)
    )
    return services


class TestFlags:
    @pytest.mark.parametrize("entry", schema().entries, ids=lambda entry: entry.key)
    def test_every_option(self, entry: Any) -> None:
        """Every option has a flag, whose help explains it and tells its default."""
        assert parsed(f"--{entry.flag}", "text").given() == {entry.name: "text"}
        # Lines are wrapped at spaces and hyphens.
        text = "".join(str(Options()).split())
        # Several applications can each have a meaning of their own for it.
        before = f"--{entry.flag}=" + r"((?!--[a-z-]+=).)*"
        assert re.search(before + re.escape("".join(entry.option.help.split())), text)

    def test_given(self) -> None:
        """Only flags that stand on the command line are given."""
        assert parsed().given() == {}
        assert parsed("-c", "file", "--max-retries=0").given() == {"config": "file", "max_retries": "0"}

    @pytest.mark.parametrize("arguments", [["--colour=red"], ["--config"], ["stray"]])
    def test_wrong(self, arguments: list[str]) -> None:
        """A command line that is wrong ends the process with one line instead of the whole help."""
        with pytest.raises(SystemExit) as caught:
            parsed(*arguments)
        assert str(caught.value.code).startswith("junebug-turn: ")
        assert "\n" not in str(caught.value.code)


class TestMakeService:
    def test_settings(self, made: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
        """The service is made of the flags and the environment, with the reactor of the process."""
        monkeypatch.setenv("AMQP_HOSTNAME", "rabbit")
        makeService(parsed(*complete()))
        from twisted.internet import reactor

        (service,) = made
        assert service.reactor is reactor
        assert service.settings.daemon.amqp.hostname == "rabbit"
        assert service.settings.applications[0].connector_name == "sms"

    def test_secrets_at_sighup(self, made: list[Recorded], tmp_path: Path) -> None:
        """SIGHUP has the configuration read again, from the same flags, for the secrets in it."""
        secret = tmp_path / "secret"
        secret.write_text("old")
        makeService(parsed(*complete(**{"webhook-secret-file": str(secret)})))
        secret.write_text("new\nold\n")
        SIGNALS["SIGHUP"]()
        (service,) = made
        assert service.settings.applications[0].webhook_secret == "old"
        assert service.renewed.applications[0].webhook_secret == ("new", "old")

    def test_in_an_application(self, made: list[Recorded], capsys: pytest.CaptureFixture[str]) -> None:
        """In twistd's application the service runs and stops with it, and log_level is honoured."""
        application = Application("test")
        options = parsed(*complete(**{"log-level": "error"}))
        makeService(options).setServiceParent(application)
        observer = application.getComponent(ILogObserver)
        log = Logger(observer=observer)
        log.warn("a warning")
        log.error("an error")
        shown = capsys.readouterr().out
        assert "an error" in shown
        assert "a warning" not in shown
        (service,) = made
        IService(application).startService()
        assert service.running
        IService(application).stopService()
        assert not service.running

    @pytest.mark.parametrize("level", ["debug", "info"])
    def test_debug_lines(self, made: list[Recorded], level: str) -> None:
        """While the service runs at a log_level above debug, nobody needs to say what is debug."""
        application = Application("test")
        makeService(parsed(*complete(**{"log-level": level}))).setServiceParent(application)
        IService(application).startService()
        assert debugging() is (level == "debug")
        IService(application).stopService()
        assert debugging()

    def test_sentry(self, made: list[Recorded]) -> None:
        """With sentry_dsn bugs are reported, else none; one that is no DSN ends the start with a line."""
        application = Application("test")
        makeService(parsed(*complete())).setServiceParent(application)
        assert application.getComponent(ILogObserver).reporter is None
        makeService(parsed(*complete(**{"sentry-dsn": "http://key@127.0.0.1:9/1"}))).setServiceParent(
            application
        )
        lines = application.getComponent(ILogObserver)
        assert lines.reporter is not None
        lines.reporter.close()
        with pytest.raises(SystemExit) as caught:
            makeService(parsed(*complete(**{"sentry-dsn": "http://127.0.0.1:9/1"})))
        assert str(caught.value.code).startswith("junebug-turn: sentry_dsn: ")

    def test_spans(
        self, made: list[Recorded], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Spans are exported as the variables say; without the extra the start ends with a line that names it."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        try:
            makeService(parsed(*complete()))
            span = tracing.start(tracing.SERVER, None, "POST", "sms")
            assert span is not None
            monkeypatch.setitem(sys.modules, "junebug_turn.telemetry.otel", None)
            with pytest.raises(SystemExit) as caught:
                makeService(parsed(*complete()))
            assert "install junebug-turn[otel]" in str(caught.value)
        finally:
            tracing.record_spans(None)

    def test_log_options(self, made: list[Recorded], capsys: pytest.CaptureFixture[str]) -> None:
        """log_format and log_addresses are honoured."""
        application = Application("test")
        flags = complete(**{"log-format": "json", "log-addresses": "full"})
        makeService(parsed(*flags)).setServiceParent(application)
        Logger(observer=application.getComponent(ILogObserver)).info("{to_addr}", to_addr="+27820000001")
        assert json.loads(capsys.readouterr().out)["text"] == "+27820000001"

    def test_faults_of_the_service(self, made: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault that only the service can find ends the process with its lines, too."""

        def make_daemon(reactor: Any, settings: Settings, *, descriptors: int) -> None:
            raise ConfigError("one: wrong", "two: wrong")

        monkeypatch.setattr(sys.modules["junebug_turn.daemon.build"], "make_daemon", make_daemon)
        with pytest.raises(SystemExit) as caught:
            makeService(parsed(*complete()))
        assert caught.value.code == "junebug-turn: one: wrong\njunebug-turn: two: wrong"


class TestTwistd:
    def test_faults(self, tmp_path: Path) -> None:
        """Faults end the start with status 1 and a line each, of every layer, without traceback or secret."""
        file = tmp_path / "conf.yaml"
        file.write_text("max_retires: 1\namqp_url: amqp://u:s3cret@h:0\n")
        ended = twistd(tmp_path, "-c", str(file), "--application=junebug", before=("-n",), LOG_LEVEL="loud")
        lines = ended.stderr.splitlines()
        assert ended.returncode == 1
        assert [line.split(":")[:2] for line in lines] == [
            ["junebug-turn", " max_retires"],
            ["junebug-turn", " log_level"],
            ["junebug-turn", " amqp_url"],
            ["junebug-turn", " connector_name"],
            ["junebug-turn", " http_bind"],
            ["junebug-turn", " mo_message_url"],
        ]
        assert str(file) in lines[0]
        assert "environment variable LOG_LEVEL" in lines[1]
        assert "s3cret" not in ended.stdout + ended.stderr
        assert ended.stdout == ""

    def test_faults_of_a_daemon(self, tmp_path: Path) -> None:
        """A daemon that is to go to the background tells its faults before, and leaves no PID file."""
        ended = twistd(tmp_path, "--config", "absent.yaml", before=("--pidfile=x.pid",))
        assert ended.returncode == 1
        assert "config: can't read absent.yaml: No such file or directory (flag --config)" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not (tmp_path / "x.pid").exists()

    def test_unknown_flag(self, tmp_path: Path) -> None:
        """An unknown flag is one line and status 1."""
        ended = twistd(tmp_path, "--colour=red")
        assert ended.returncode == 1
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert "--colour" in line

    @pytest.mark.parametrize(
        ("flag", "shown"), [("--help", "--mo-message-url="), ("--version", "junebug-turn ")]
    )
    def test_without_configuration(self, tmp_path: Path, flag: str, shown: str) -> None:
        """--help and --version need no configuration."""
        ended = twistd(tmp_path, flag)
        assert ended.returncode == 0
        assert shown in ended.stdout
        assert ended.stderr == ""

    def test_listed(self, tmp_path: Path) -> None:
        """twistd lists the command, with what it does."""
        ended = subprocess.run(
            [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--help"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "junebug-turn" in ended.stdout

    def test_help_is_quick(self, tmp_path: Path) -> None:
        """--help doesn't load what only a running daemon needs."""
        program = "import sys, junebug_turn.daemon.tap; print(*sys.modules)"
        loaded = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.split()
        assert not {"klein", "treq", "txamqp", "twisted.internet.reactor"} & set(loaded)


def test_worker_class() -> None:
    """``worker CLASS``, as vumi2's command line begins, chooses the application."""
    path = "vumi2.applications.TurnChannelsApi"
    assert parsed("worker", path, "--amqp-hostname=rabbit").given() == {
        "application": path,
        "amqp_hostname": "rabbit",
    }
    for wrong in (["worker"], ["worker", "--amqp-hostname=rabbit"]):
        with pytest.raises(SystemExit, match="worker: needs the class path"):
            parsed(*wrong)
