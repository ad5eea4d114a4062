"""Traces of messages in the daemon, for operators: with the circuits, and the stores in its memory.

Tested by tests/integration/test_trace.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.queue_browser import QueueBrowser
from junebug_turn.connectors.trace import Source, trace
from junebug_turn.daemon.channels.service import ChannelsService
from junebug_turn.daemon.settings import Settings
from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.errors import AmqpConnectionError
from junebug_turn.state.journal import Journals
from junebug_turn.state.message_store import MessageStore


def sources(
    settings: Settings, stores: Mapping[str, MessageStore], channels: ChannelsService | None
) -> Iterator[Source]:
    """Yield the connectors of a daemon, as they are now.

    :param stores: connector -> the store of its configured application
    """
    for each in settings.applications:
        name = each.connector_name
        yield Source(connector=name, store=stores[name], urls=tuple(each.urls.values()))
    if channels is not None:
        yield from channels.sources()


class Traces:
    """Finder of all that is known of a message.

    :param sources: returns the connectors that may have had it, as they are now
    """

    def __init__(
        self,
        reactor: Any,
        amqp: AmqpOptions,
        deliverer: Deliverer,
        journals: Journals,
        sources: Callable[[], Iterable[Source]],
    ) -> None:
        self._reactor = reactor
        self._amqp = amqp
        self._deliverer = deliverer
        self._journals = journals
        self._sources = sources

    async def find(self, message_id: str, *, full: bool = False) -> dict[str, Any]:
        """Return the trace as JSON: see ``Trace.summary``.

        While the broker is away it has no parked messages, and ``broker`` says why.

        :param full: whether whole addresses and bodies are shown
        """
        await self._journals.write()
        fault = None
        try:
            browser = await QueueBrowser.open(self._reactor, self._amqp)
            try:
                found = await trace(message_id, self._sources(), browser)
            finally:
                await browser.close()
        except AmqpConnectionError as error:
            fault = str(error)
            found = await trace(message_id, self._sources())
        return found.summary(self._deliverer.degraded(), full=full) | {"broker": fault}
