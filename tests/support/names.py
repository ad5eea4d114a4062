"""A resolver of names whose answers a test gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import implementer

reactor: Any = _reactor


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """It is over already."""


@implementer(IHostnameResolver)
class Names:
    """A resolver that has the answers of ``answers``, one list of addresses after the other for each name."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def resolveHostName(
        self,
        receiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        self.asked.append(hostName)
        receiver.resolutionBegan(_Resolution(hostName))
        answers = self.answers.get(hostName, [[]])
        for address in answers.pop(0) if len(answers) > 1 else answers[0]:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return _Resolution(hostName)


@contextmanager
def resolving(**answers: str) -> Iterator[Names]:
    """The reactor's resolver is such a one, which has these answers at first."""
    names = Names()
    for name, address in answers.items():
        names.answers[name] = [[address]]
    before = reactor.installNameResolver(names)
    try:
        yield names
    finally:
        reactor.installNameResolver(before)
