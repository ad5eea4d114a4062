"""Reports of bugs to Sentry: their place and ids, and no text of a message.

sentry-sdk sends from a thread of its own, so the reactor never waits for it.  Of the SDK only its client is
used: nothing is hooked into the interpreter, and the contents of an event are chosen here.
"""

from __future__ import annotations

from typing import Any, cast

import sentry_sdk
from sentry_sdk.utils import BadDsn, event_from_exception
from twisted.logger import LogEvent

from junebug_turn import version
from junebug_turn.errors import ConfigError
from junebug_turn.telemetry.masking import mask_numbers

FLUSH_TIMEOUT = 2.0
"""Seconds that the end of the daemon waits for reports that are not sent yet."""

MAX_WAITING = 100  # events that are not sent yet; more are dropped
_TAGS = ("connector", "message_id", "event_id", "queue")
_LEFT_OUT = "(left out: it may quote a message)"


class Reporter:
    """Reporter of critical log events to the Sentry project of ``dsn``.

    The tags are connector, message_id, event_id and queue, where they are known.  The text of an exception that
    isn't one of ours is left out, and so are variables, log fields and the request.

    :raises ConfigError: the DSN is none
    """

    def __init__(self, dsn: str) -> None:
        try:
            self._client: Any = sentry_sdk.Client(
                dsn,
                release=f"junebug-turn@{version() or 'unknown'}",
                default_integrations=False,
                auto_enabling_integrations=False,
                auto_session_tracking=False,
                enable_backpressure_handling=False,
                include_local_variables=False,
                max_breadcrumbs=0,
                max_request_body_size="never",
                send_client_reports=False,
                spotlight=False,
                transport_queue_size=MAX_WAITING,
            )
        except BadDsn as error:
            raise ConfigError(f"sentry_dsn: {error}") from None

    def __call__(self, event: LogEvent) -> None:
        """Queue a report of a log event; returns at once."""
        report: dict[str, Any] = {}
        failure = event.get("log_failure")
        if failure is not None:
            exc_info = (failure.type, failure.value, failure.getTracebackObject())
            report = cast(Any, event_from_exception(exc_info, client_options=self._client.options)[0])
            for exception in report["exception"]["values"]:
                ours = str(exception.get("module")).startswith("junebug_turn.")
                exception["value"] = mask_numbers(str(exception["value"])) if ours else _LEFT_OUT
        report["level"] = "error"
        report["logger"] = event.get("log_namespace") or "-"
        # A constant of the code; its values stay here.
        legacy = event.get("log_namespace") == "log_legacy"
        report["logentry"] = {"message": "Unhandled error" if legacy else str(event.get("log_format"))}
        report["tags"] = {name: str(event[name]) for name in _TAGS if event.get(name) is not None}
        self._client.capture_event(report)

    def close(self) -> None:
        """Send the rest, for ``FLUSH_TIMEOUT`` at most; blocks."""
        self._client.close(timeout=FLUSH_TIMEOUT)
