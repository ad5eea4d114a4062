"""The log observer: which lines are written, and where."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.python import log as legacy
from zope.interface.verify import verifyObject

from tests.support.log import Log, fault


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_legacy(made: Callable[..., Log], log_format: str) -> None:
    """An error said to twisted.python.log has one traceback; what Twisted says of itself is debug."""
    log = made(log_format=log_format)
    publisher = legacy.LogPublisher(publishPublisher=LogPublisher(log.observer))
    publisher.msg("Starting factory <x>")
    publisher.msg("no", "thing")
    assert not log.path.read_text()
    legacy_event = {"isError": 1, "failure": fault(), "why": "it broke", "message": (), "time": 0.0}
    publisher.msg(**legacy_event)
    assert log.path.read_text().count("Traceback") == 1
    assert "it broke" in log.path.read_text()


def test_noise(made: Callable[..., Log]) -> None:
    """What Twisted itself says at info is shown at debug only."""
    twisteds = "twisted.internet.protocol"
    log = made()
    Logger(namespace=twisteds, observer=log.observer).info("Starting factory")
    Logger(namespace=twisteds, observer=log.observer).warn("odd")
    assert [line.split("] ")[1] for line in log.lines] == ["odd"]
    debug = made("DEBUG")
    Logger(namespace=twisteds, observer=debug.observer).info("Starting factory")
    assert "#debug] Starting factory" in debug.lines[-1]


def test_reopen(made: Callable[..., Log]) -> None:
    """After a file was moved away, reopening writes a new one."""
    log = made()
    log.logger.info("one")
    log.path.rename(log.path.with_name("log.1"))
    log.observer.reopen()
    log.logger.info("two")
    assert [line.split("] ")[1] for line in log.lines] == ["two"]


def test_counted(made: Callable[..., Log]) -> None:
    """A count's line masks them, too."""
    log = made()
    for _ in range(3):
        log.logger.warn("to {to_addr}", to_addr="0820000001")
    log.observer.close()
    assert "... 2 times" in log.lines[1]
    assert "0820" not in log.path.read_text()


def test_interface(made: Callable[..., Log]) -> None:
    """It is an observer as Twisted wants one."""
    assert verifyObject(ILogObserver, made().observer)
