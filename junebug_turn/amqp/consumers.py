"""The consumers of the AMQP service, some of which may be paused."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from junebug_turn.amqp.consumer import Consumer
from junebug_turn.amqp.delivery import Delivery


class Consumers(list[Consumer]):
    """Consumers, in the order in which they were made."""

    def __init__(self) -> None:
        super().__init__()
        self._paused: set[str] = set()

    def append(self, consumer: Consumer) -> None:
        """Add a consumer, which is paused where its queue is."""
        consumer.paused = consumer.name in self._paused
        super().append(consumer)

    async def pause(self, queues: Collection[str], paused: bool) -> None:
        """Have no messages of these queues come from now on, or have them come again.

        This holds for consumers that are made later, too.  Handlers under way end as usual.
        """
        self._paused = self._paused | set(queues) if paused else self._paused - set(queues)
        switching = [each.pause(paused) for each in self if each.name in queues]
        await gatherResults([Deferred.fromCoroutine(each) for each in switching])

    def oldest(self) -> dict[str, Delivery]:
        """Return, for each queue with handlers under way, the message whose handler has run for longest."""
        return {each.name: oldest for each in self if (oldest := each.oldest) is not None}

    def status(self) -> dict[str, Any]:
        """Return ``consumers``, queue -> whether it is consumed, and ``paused``, the others, if there are some."""
        status: dict[str, Any] = {"consumers": {each.name: each.live for each in self if not each.paused}}
        if paused := [each.name for each in self if each.paused]:
            status["paused"] = paused
        return status
