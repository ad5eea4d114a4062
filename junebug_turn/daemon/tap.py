"""The command ``twistd junebug-turn``: its flags, and the service that it makes of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from twisted.application.internet import TimerService
from twisted.application.service import IService, IServiceCollection, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from junebug_turn import version
from junebug_turn.config.sources import FILE_VARIABLES
from junebug_turn.daemon.flags import CONFIG_HELP, flags
from junebug_turn.daemon.junebug import command_line
from junebug_turn.daemon.process import collect_garbage_rarely
from junebug_turn.daemon.settings import load
from junebug_turn.errors import ConfigError
from junebug_turn.telemetry.context import hear_debug

if TYPE_CHECKING:
    from junebug_turn.telemetry.logging.observer import Lines
    from junebug_turn.telemetry.sentry import Reporter
    from junebug_turn.telemetry.tracing import Recorder

log = Logger()

COUNT_INTERVAL = 5.0
"""Seconds between looks for repeated lines whose count is due."""


class _Parameters:
    """The rows of ``optParameters``, made when the command line is read: by then all applications are known."""

    def __iter__(self) -> Iterator[list[str | None]]:
        yield ["config", "c", None, CONFIG_HELP]
        for flag in flags():
            yield [flag.name, None, None, flag.help]


def _end(*lines: str) -> SystemExit:
    """Return the exit with status 1 and ``lines`` on standard error, without traceback."""
    return SystemExit("\n".join(f"junebug-turn: {line}" for line in lines))


class Options(usage.Options):
    """Command line of ``twistd junebug-turn``, with a flag for each option."""

    synopsis = "[worker CLASS] [options]"
    longdesc = (
        "Carries messages between vumi's AMQP queues and the HTTP APIs of Junebug, Turn, RapidPro and Kannel. A "
        "flag is stronger than an environment variable (AMQP_HOSTNAME, with the prefix in VUMI_CONFIG_PREFIX where "
        "it is set), which is stronger than the configuration file. Secrets are better kept out of flags, which "
        "every user of the machine can see."
    )
    optParameters = _Parameters()
    junebug: command_line.Pieces | None = None

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; a wrong one ends the process with a line instead of the whole help.

        It may begin with ``worker CLASS``, as vumi2's does, which means ``--application CLASS``, and with ``jb``, which
        Junebug's own flags follow.
        """
        given = list(sys.argv[1:] if options is None else options)
        if given[:1] == ["jb"]:
            self.junebug = command_line.parse(given[1:])
            config = self.junebug.get(command_line.CONFIG)
            given = [] if config is None else ["--config", config.value]
        if given[:1] == ["worker"]:
            if len(given) < 2 or given[1].startswith("-"):
                raise _end("worker: needs the class path of an application")
            given[:2] = ["--application", given[1]]
        try:
            super().parseOptions(given)
        except usage.UsageError as error:
            raise _end(f"{error} (twistd junebug-turn --help lists the options)") from None

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"junebug-turn {version() or 'not installed'}")
        raise SystemExit(0)

    def given(self) -> dict[str, str]:
        """Return the flags that stand on the command line, by the names that ``settings.load`` has for them."""
        return {name.replace("-", "_"): text for name, text in self.items() if text is not None}


class _Logging(MultiService):
    """The root of the services, which has the log observer of the application that they become a part of."""

    def __init__(
        self, reactor: Any, lines: Lines, reporter: Reporter | None, spans: Recorder | None = None
    ) -> None:
        super().__init__()
        self._reporter = reporter
        self._reactor = reactor
        self._lines = lines
        self._spans = spans
        TimerService(COUNT_INTERVAL, lines.flush).setServiceParent(self)

    def setServiceParent(self, parent: IServiceCollection) -> None:
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._lines)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start the children."""
        hear_debug(self._lines.debugging)
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Stop the children, then log the last counts and report the last bugs."""
        return Deferred.fromCoroutine(self._stop(maybeDeferred(super().stopService)))

    async def _stop(self, children: Deferred[Any]) -> None:
        await children
        self._lines.close()
        hear_debug(True)
        for last in (self._reporter, self._spans):
            if last is not None:
                await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), last.close)


def _spans(environ: Mapping[str, str]) -> Recorder | None:
    """Have spans exported, where the variables of OpenTelemetry ask for it.

    :raises ConfigError: what they need is not installed
    """
    from junebug_turn.telemetry.spans import recorder_for
    from junebug_turn.telemetry.tracing import record_spans

    try:
        recorder = recorder_for(environ)
    except ImportError as error:
        raise ConfigError(
            f"OTEL_* variables: {error.name} is missing: install junebug-turn[otel], or set OTEL_SDK_DISABLED to true"
        ) from None
    record_spans(recorder)
    return recorder


def makeService(options: Options) -> IService:
    """Make the daemon for these flags and this process's environment.

    :raises SystemExit: the configuration can't be used; status 1, and a line for each fault
    """
    collect_garbage_rarely()
    environ: Mapping[str, str] = os.environ
    if options.junebug is not None:
        # Junebug's command names its file itself: a variable would name one of ours.
        environ = {name: value for name, value in environ.items() if name not in FILE_VARIABLES}
    try:
        settings = load(options.given(), environ, options.junebug)
        # Here, since --help and a faulty configuration need none of these, and twistd chooses the reactor.
        from twisted.internet import reactor

        from junebug_turn.daemon.build import make_daemon
        from junebug_turn.daemon.cautions import cautions
        from junebug_turn.daemon.process import (
            call_on_signals,
            raise_descriptor_limit,
            tune_garbage_collector,
        )
        from junebug_turn.daemon.systemd import Supervision
        from junebug_turn.net.clocks import use_monotonic
        from junebug_turn.telemetry.logging.observer import Lines
        from junebug_turn.telemetry.sentry import Reporter

        use_monotonic(reactor)
        dsn = settings.daemon.sentry_dsn
        reporter = Reporter(dsn) if dsn else None
        spans = _spans(environ)
        descriptors = raise_descriptor_limit()
        daemon = make_daemon(reactor, settings, descriptors=descriptors)
    except ConfigError as error:
        raise _end(*error.lines) from None
    for line in settings.warnings:
        # Twisted keeps the lines until twistd logs.  Each has a reason of its own, or the log would sum them up.
        log.warn("an option without effect: {reason}", reason=line)
    for text, fields in cautions(settings, descriptors):
        log.warn(text, **fields)
    twistd = cast(dict[str, Any], options.parent or {})
    lines = Lines(
        settings.daemon.log_level,
        twistd,
        log_format=settings.daemon.log_format,
        full_addresses=settings.daemon.log_addresses == "full",
        reporter=reporter,
    )
    service = _Logging(reactor, lines, reporter, spans)
    daemon.setServiceParent(service)
    # The last one, since that is the first to stop.
    Supervision(reactor, os.environ, daemon).setServiceParent(service)

    def reload() -> None:
        daemon.reload()
        daemon.renew_secrets(lambda: load(options.given(), os.environ))

    call_on_signals(reactor, SIGHUP=reload, SIGUSR1=lines.reopen)

    def end_drain() -> None:
        daemon.drain.end()

    # A second one ends the drain that the first has begun.
    cast(Any, reactor).addSystemEventTrigger(
        "before", "shutdown", call_on_signals, reactor, SIGTERM=end_drain, SIGINT=end_drain
    )
    cast(Any, reactor).callWhenRunning(tune_garbage_collector)
    return service
