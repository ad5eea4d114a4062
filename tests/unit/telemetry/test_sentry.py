"""Bugs on their way to Sentry, as a receiver of the real SDK's envelopes gets them."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from junebug_turn.errors import ConfigError, DeliveryRefused
from junebug_turn.telemetry.context import about
from junebug_turn.telemetry.logging.observer import Lines
from junebug_turn.telemetry.sentry import FLUSH_TIMEOUT, Reporter
from tests.support.leaks import LEAKS
from tools.servers.receiver import HANG, Received, Receiver

reactor: Any = _reactor
KEY = "0123456789abcdef0123456789abcdef"
SECRET, TEXT, NUMBER = "t0ken-s3cret", "my diagnosis", "+27820000001"


def items(request: Received) -> list[tuple[dict[str, Any], Any]]:
    """The items of an envelope: each has its header and its JSON."""
    body = request.body
    if request.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    LEAKS.search("a Sentry envelope", body.decode())
    _, *lines = body.split(b"\n")
    lines = [line for line in lines if line]
    return [(json.loads(lines[i]), json.loads(lines[i + 1])) for i in range(0, len(lines), 2)]


class Sentry:
    """A Sentry server, and a log that reports to it."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self.receiver = receiver
        self.reporter = Reporter(receiver.url("/7", userinfo=f"{KEY}@"))
        self.lines = Lines("INFO", {"logfile": str(folder / "log")}, reporter=self.reporter)
        self.log = Logger(namespace="junebug_turn.test", observer=self.lines)

    async def event(self) -> Any:
        (request,) = await self.receiver.received(1)
        assert request.path == "/api/7/envelope/"
        assert KEY in request.headers["x-sentry-auth"]
        ((header, event),) = items(request)
        assert header["type"] == "event"
        return event


@pytest_twisted.async_yield_fixture
async def sentry(tmp_path: Path) -> AsyncIterator[Sentry]:
    receiver = Receiver(reactor)
    receiver.start()
    made = Sentry(receiver, tmp_path)
    yield made
    await deferToThread(made.reporter.close)
    await receiver.stop()


def fail_with_secrets(content: str, to_addr: str) -> None:
    token = SECRET
    raise LookupError(f"{content} for {to_addr} with {token}")


@pytest_twisted.ensureDeferred
async def test_bug(sentry: Sentry) -> None:
    """A bug's event has its class, its place, release, connector and message id, and where it was logged."""
    with about(connector="sms", message_id="m1"):
        try:
            fail_with_secrets(TEXT, NUMBER)
        except LookupError:
            sentry.log.failure("Fault in handling {message_id}", body=TEXT, token=SECRET, to_addr=NUMBER)
    event = await sentry.event()
    (exception,) = event["exception"]["values"]
    assert exception["type"] == "LookupError"
    assert exception["stacktrace"]["frames"][-1]["function"] == "fail_with_secrets"
    assert event["tags"] == {"connector": "sms", "message_id": "m1"}
    assert event["release"].startswith("junebug-turn@")
    assert event["logger"] == "junebug_turn.test"
    assert event["logentry"]["message"] == "Fault in handling {message_id}"


@pytest_twisted.ensureDeferred
async def test_secrets(sentry: Sentry) -> None:
    """An event has no variable, no log field, no text of a foreign exception, and so no body, token or address."""
    try:
        try:
            fail_with_secrets(TEXT, NUMBER)
        except LookupError as error:
            raise RuntimeError(str(error)) from error
    except RuntimeError:
        sentry.log.failure("broken", body=TEXT, token=SECRET, to_addr=NUMBER)
    event = await sentry.event()
    text = json.dumps(event)
    assert len(event["exception"]["values"]) == 2
    for secret in (SECRET, TEXT, NUMBER, NUMBER[1:]):
        assert secret not in text
    assert "vars" not in text
    assert "argv" not in text


@pytest_twisted.ensureDeferred
async def test_our_own(sentry: Sentry) -> None:
    """An exception of ours, whose texts hold no secrets, keeps its text."""
    sentry.log.failure("broken", failure=_failure(DeliveryRefused))
    event = await sentry.event()
    assert event["exception"]["values"][0]["value"] == "refused by ***0001"


def _failure(cls: type[DeliveryRefused]) -> Any:
    caught: list[Any] = []

    async def work() -> None:
        raise cls(
            f"refused by {NUMBER}",
            reason="dns",
            last_status=None,
            attempts=1,
            first_failure=0,
            last_failure=0,
        )

    Deferred.fromCoroutine(work()).addErrback(caught.append)
    return caught[0]


@pytest_twisted.ensureDeferred
async def test_only_bugs(sentry: Sentry) -> None:
    """Only what is critical is reported, and once a minute where it repeats."""
    sentry.log.error("the broker refused us")
    for _ in range(20):
        try:
            fail_with_secrets(TEXT, NUMBER)
        except LookupError:
            sentry.log.failure("broken")
    sentry.lines.close()
    await sentry.event()
    await deferToThread(sentry.reporter.close)
    assert len(sentry.receiver.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs(sentry: Sentry) -> None:
    """A Sentry that doesn't answer holds up nothing: logging returns at once, the end waits two seconds."""
    sentry.receiver.script(HANG, HANG, HANG)
    start = reactor.seconds()
    for number in range(3):
        sentry.log.critical("broken", reason=number)
    assert reactor.seconds() - start < 1
    await sentry.receiver.received(1)
    start = reactor.seconds()
    await deferToThread(sentry.reporter.close)
    assert reactor.seconds() - start < FLUSH_TIMEOUT + 1


@pytest.mark.parametrize("dsn", ["https://sentry.example/1", "https://key@sentry.example/"])
def test_wrong_dsn(dsn: str) -> None:
    """A URL that isn't a DSN is a fault of the configuration, told without the key."""
    with pytest.raises(ConfigError) as caught:
        Reporter(dsn)
    assert caught.value.lines[0].startswith("sentry_dsn: ")
    assert "key" not in caught.value.lines[0].replace("public key", "")
