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
    """Comes before a class of Twisted's: of its writes the reactor hears only when the socket did not take all."""

    log = Logger()
    reactor: Any

    _waits = False  # for the end of the turn
    _unsent = False

    def startWriting(self) -> None:
        """There is something to send, or to close once it is sent."""
        if not self.connected:
            super().startWriting()  # it waits for the connection
        elif not self._waits:
            self._waits = True
            if not _written:
                self.reactor.callLater(0, _end_turn)
            _written.append(self)

    def stopWriting(self) -> None:
        """All is sent, or nothing will be."""
        self._waits = self._unsent = False
        super().stopWriting()

    def send(self) -> None:
        """Send what the socket takes; the rest, and what ends the connection, is the reactor's."""
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
    """A connection that was accepted."""


def accept_promptly(port: Any) -> None:
    """Have the connections that a listening port will accept be such; one that is not TCP's stays as it is."""
    if getattr(port, "transport", None) is Server:
        port.transport = _Server


class _Client(_Prompt, Client):
    """A connection that was made."""


class PromptConnector(Connector):
    """Makes such a connection."""

    def _makeTransport(self) -> Client:
        return _Client(self.host, self.port, self.bindAddress, self, self.reactor)
