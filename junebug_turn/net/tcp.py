"""TCP connections that send at the end of the reactor's turn in which something was written.

Twisted's own are sent in the next turn, once epoll has said that the socket has room, which it nearly always has: being
asked for each message, and told to forget it, epoll costs more than the sending.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Client, Connector, Server
from twisted.logger import Logger

_written: list[_Prompt] = []  # in this turn; a process has one reactor


class _Prompt(FileDescriptor):
    """Mixin before a class of Twisted's: the reactor hears of a write only when the socket did not take all of it."""

    log = Logger()
    reactor: Any

    _waits = False  # for the end of the turn
    _unsent = False

    def startWriting(self) -> None:
        """Send at the end of the turn, or close then."""
        if not self.connected:
            super().startWriting()  # it waits for the connection
        elif not self._waits:
            self._waits = True
            if not _written:
                self.reactor.callLater(0, _end_turn)
            _written.append(self)

    def stopWriting(self) -> None:
        """Note that all is sent, or that nothing will be."""
        self._waits = self._unsent = False
        super().stopWriting()

    def send(self) -> None:
        """Send as much as the socket takes; the rest, and the end of the connection, are the reactor's."""
        if not self._waits:
            return
        self._waits, self._unsent = False, True
        try:
            over = self.doWrite()
        except Exception:
            self.log.failure("a connection failed while it was sending")
            self.abortConnection()  # type: ignore[attr-defined]  # of the classes below
            return
        if over is not None or self._unsent:
            super().startWriting()


def _end_turn() -> None:
    connections = _written.copy()
    _written.clear()
    for connection in connections:
        connection.send()


class _Server(_Prompt, Server):
    """Accepted connection that sends at the end of the turn."""


def accept_promptly(port: Any) -> None:
    """Have a listening port's connections send at the end of the turn; a port that is not TCP's stays as it is."""
    if getattr(port, "transport", None) is Server:
        port.transport = _Server


class _Client(_Prompt, Client):
    """Outgoing connection that sends at the end of the turn."""


class PromptConnector(Connector):
    """Connector whose connection sends at the end of the turn."""

    def _makeTransport(self) -> Client:
        return _Client(self.host, self.port, self.bindAddress, self, self.reactor)
