"""The daemon's state for operators: connectors, and whether messages flow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from attrs import frozen

from junebug_turn.connectors.retry_queues import delay_of
from junebug_turn.http.admin.operators.backend import Json, Overview
from junebug_turn.telemetry.rates import Rates

NAMED = 5
"""Connectors and queues that a reason names; the others are a number."""


@frozen
class State:
    """Reader of the daemon's state.

    :ivar applications: connector -> word of its application
    :ivar health: returns the components of ``/health``
    :ivar queues: returns the latest counts: queue -> messages that wait in it, consumers that it has
    :ivar is_paused: tells whether a connector is paused
    """

    applications: Mapping[str, str]
    health: Callable[[], Mapping[str, Mapping[str, Any]]]
    queues: Callable[[], Mapping[str, tuple[int, int]]]
    is_paused: Callable[[str], bool]
    rates: Rates

    def connectors(self) -> list[Json]:
        """See ``Operators.connectors``."""
        live = self.health()["amqp"]["consumers"]
        counts = self.queues()
        return [self._connector(name, counts, live) for name in sorted(self.applications)]

    def _connector(self, name: str, counts: Mapping[str, tuple[int, int]], live: Mapping[str, bool]) -> Json:
        def queue(kind: str) -> dict[str, Any]:
            messages, consumers = counts.get(f"{name}.{kind}", (None, None))
            return {"messages": messages, "consumers": consumers}

        outbound = queue("outbound")
        transport = {None: "unknown", 0: "down"}.get(outbound["consumers"], "up")
        ours = {kind: queue(kind) | {"live": live.get(f"{name}.{kind}")} for kind in ("inbound", "event")}
        return {
            "name": name,
            "application": self.applications[name],
            "paused": self.is_paused(name),
            "transport": transport,
            "queues": {**ours, "outbound": outbound},
            "parked": {kind: queue(f"{kind}.parked")["messages"] for kind in ("inbound", "event")},
            "rates": self.rates.of(name),
        }

    def overview(self) -> Overview:
        """See ``Operators.overview``."""
        health, connectors = self.health(), self.connectors()
        destinations = health["destinations"]
        stopped = list(_broker_faults(health["amqp"]))
        partly = list(self._partly(health, connectors))
        delayed = {
            delay: messages
            for queue, (messages, _) in self.queues().items()
            if (delay := delay_of(queue)) is not None
        }
        return Overview(
            flows="no" if stopped else "partly" if partly else "yes",
            reasons=[*stopped, *partly],
            broker=health["amqp"],
            connectors=connectors,
            circuits=destinations["origins"],
            other_circuits=destinations["others"],
            delayed=delayed,
        )

    def _partly(self, health: Mapping[str, Mapping[str, Any]], connectors: Collection[Json]) -> Iterator[str]:
        amqp, destinations = health["amqp"], health["destinations"]
        if amqp["connected"] and (gone := [queue for queue, live in amqp["consumers"].items() if not live]):
            yield f"nobody here consumes {_some(gone)}"
        if paused := [each["name"] for each in connectors if each["paused"]]:
            yield f"{_some(paused)} {_is(paused)} paused"
        if idle := [each["name"] for each in connectors if each["transport"] == "down"]:
            yield f"no transport consumes the outbound messages of {_some(idle)}"
        if down := list(destinations["origins"]):
            yield f"{_some(down)} {_is(down)} down: deliveries wait"
        if others := destinations["others"]:
            yield f"{others} {'URL' if others == 1 else 'URLs'} of clients {'is' if others == 1 else 'are'} down"
        if health["cache"]["state"] != "ok":
            yield "a cache can't be used: requests and replies that need it are refused"
        if "channels" in health and not health["channels"]["ok"]:
            yield "the store of channels can't be read: none of its channels runs"


def _broker_faults(amqp: Mapping[str, Any]) -> Iterator[str]:
    if not amqp["connected"]:
        yield "the daemon has no connection to the broker"
        return
    if amqp["blocked"]:
        yield "the broker takes no messages: it is short of memory or disk"
    if not amqp["publishing"]:
        yield "the daemon can't publish: a queue or a channel is missing"
    yield from amqp.get("faults", ())


def _some(names: Collection[str]) -> str:
    shown = list(names)[:NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _is(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"
