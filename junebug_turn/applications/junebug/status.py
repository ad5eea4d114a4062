"""The status of a channel: what its transport says, whether the transport runs, and the rates of messages."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from junebug_turn.applications.base import Services
from junebug_turn.applications.forwarding import Forwarder
from junebug_turn.applications.junebug.options import JunebugOptions
from junebug_turn.delivery.destination import Destination
from junebug_turn.errors import CacheError, DeliveryFailed
from junebug_turn.messages.vumi import DOWN, OK, STATUSES, TransportStatus
from junebug_turn.state.channel_records import COUNTED, ChannelRecords

TRANSPORT = "transport"
"""The component that stands for the transport itself."""

STORE = "store"
"""The component that stands for the store, while it is away."""


class TransportStatuses:
    """The statuses that a transport publishes: kept, the last one of each component, and POSTed to ``status_url``."""

    log = Logger()

    def __init__(self, options: JunebugOptions, services: Services) -> None:
        self._services = services
        self._records = services.store.channel_records(options.metric_window)
        self.use(options)
        services.connector.consume_statuses(self.handle)

    def use(self, options: JunebugOptions) -> None:
        """POST them with these options from now on.

        :raises DeliveryRefused: the URL can't be used
        """
        self._destination = Destination.of(options.status_url, None) if options.status_url else None
        self._forwarder = Forwarder(options, self._services.deliverer)
        self._channel = options.connector_name

    async def handle(self, status: TransportStatus) -> None:
        """Keep a status, and POST it.

        One that can't be delivered is given up after its attempts, as the next one takes its place.
        """
        about = {"component": status.component, "connector": self._channel}
        try:
            await self._records.store_status(status)
        except CacheError as error:
            self.log.warn(
                "The status of {component} of {connector} is not kept: {error!s}", error=error, **about
            )
        if self._destination is None:
            return
        try:
            await self._forwarder.status(self._destination, _component(self._channel, status))
        except DeliveryFailed as failure:
            self.log.warn(
                "The status of {component} of {connector} is not delivered: {failure!s}",
                failure=failure,
                **about,
            )


async def channel_status(channel: str, records: ChannelRecords, consumers: int | None) -> dict[str, Any]:
    """Return the status of a channel, as ``status`` of Junebug's ``GET /channels/<id>`` has it.

    The component ``transport`` is ``ok`` as long as somebody consumes the channel's outbound queue; the status of the
    channel is the worst one of its components.

    While the store is away the channel is shown all the same, with a component that says so and without rates.

    :param consumers: the number of consumers of that queue; None where it can't be known now
    """
    try:
        statuses = dict(await records.fetch_statuses())
        rates = await records.fetch_rates()
    except CacheError as error:
        statuses = {STORE: _store_away(error)}
        rates = dict.fromkeys(COUNTED, 0.0)
    statuses[TRANSPORT] = _transport(channel, consumers)
    return {
        "status": max((each.status for each in statuses.values()), key=STATUSES.index),
        "components": {name: _component(channel, each) for name, each in sorted(statuses.items())},
        "inbound_message_rate": rates["inbound"],
        "outbound_message_rate": rates["outbound"],
        "submitted_event_rate": rates["submitted"],
        "rejected_event_rate": rates["rejected"],
        "delivery_succeeded_rate": rates["delivery_succeeded"],
        "delivery_failed_rate": rates["delivery_failed"],
        "delivery_pending_rate": rates["delivery_pending"],
    }


def _transport(channel: str, consumers: int | None) -> TransportStatus:
    queue = f"{channel}.outbound"
    if consumers is None:
        type, message = "unknown", f"the broker does not say who consumes {queue}"
    elif consumers:
        type, message = "consuming", f"{queue} is consumed"
    else:
        type, message = "not_consuming", f"nobody consumes {queue}: start the transport of this channel"
    return TransportStatus(
        component=TRANSPORT,
        status=OK if consumers else DOWN,
        type=type,
        message=message,
        details={"consumers": consumers},
    )


def _store_away(error: CacheError) -> TransportStatus:
    return TransportStatus(
        component=STORE,
        status=DOWN,
        type="away",
        message=f"the transport's statuses and the rates can't be read now: {error}",
        details={},
    )


def _component(channel: str, status: TransportStatus) -> dict[str, Any]:
    return {
        "channel_id": channel,
        "component": status.component,
        "status": status.status,
        "type": status.type,
        "message": status.message,
        "details": status.details,
    }
