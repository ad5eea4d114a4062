"""``GET /health`` with the queues of the channels.

Tested by tests/integration/test_channel_health.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from attrs import frozen

from junebug_turn.http.json import write_json
from junebug_turn.http.request import ApiRequest
from junebug_turn.http.routing import Router


@frozen
class QueueReport:
    """The queues of all channels and destinations.

    :ivar queues: of each its ``name``, ``messages``, and whether it is ``stuck``; with ``rate`` where that is known
    :ivar from_management: whether the management API was asked, as Junebug does where it is set up so
    :ivar fault: why that could not be
    """

    queues: list[dict[str, Any]]
    from_management: bool = False
    fault: str | None = None

    @property
    def stuck(self) -> bool:
        """Whether messages wait in a queue that nobody takes any from, as the management API has it."""
        return self.from_management and any(queue["stuck"] for queue in self.queues)


class ChannelsHealth:
    """Health page: that of the daemon, with the queues, in the form that clients of Junebug know.

    :param components: as ``Health`` has it
    :param report: returns the queues
    """

    router = Router()

    def __init__(
        self,
        components: Callable[[], Mapping[str, Mapping[str, Any]]],
        report: Callable[[], Awaitable[QueueReport]],
    ) -> None:
        self._components = components
        self._report = report

    @router.route("/", methods=["GET"])
    async def health(self, request: ApiRequest) -> bytes:
        """Answer 200 when all components are ok and no queue is stuck, else 500."""
        report, components = await self._report(), self._components()
        well = all(component["ok"] for component in components.values())
        status = HTTPStatus.OK if well and not report.stuck else HTTPStatus.INTERNAL_SERVER_ERROR
        word = "ok" if well else "down"
        description, result = f"health {word}", components
        if report.from_management and report.fault is None:
            result = report.queues  # type: ignore[assignment]  # what Junebug has there
            if well:
                description = "queues stuck" if report.stuck else "queues ok"
        body = {
            "health": word,
            "components": components,
            "queues": report.queues,
            "queues_fault": report.fault,
            "status": status.value,
            "code": status.phrase,
            "description": description,
            "result": result,
        }
        return write_json(request, status, body)
