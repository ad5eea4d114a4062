"""A receiver that is RapidPro: it answers by courier's rules, and shows what came."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from twisted.internet import reactor

from tests.support.daemon import Answered, Running
from tools.demo import courier
from tools.demo.courier import SendRequest
from tools.servers.receiver import Answer, Received, Receiver

EXTERNAL = f"/c/ex/{courier.CHANNEL}"
KANNEL = f"/c/kn/{courier.CHANNEL}"


class Courier(Receiver):
    """RapidPro's side of one channel.

    :ivar numeric: whether it takes numbers or UUIDs as ids; None takes both
    :ivar seen: action, fields and status of each request that it answered
    """

    def __init__(self) -> None:
        super().__init__(reactor)
        self.numeric: bool | None = None
        self.seen: list[tuple[str, dict[str, str], int]] = []

    def answer_to(self, request: Received) -> Answer:
        scripted = self._scripts.get(None)
        if scripted:
            return scripted.popleft()
        status, body = courier.answer_to(
            request.method,
            request.path,
            request.headers.get("content-type", ""),
            request.body,
            numeric=self.numeric,
        )
        parts = urlsplit(request.path)
        fields = dict(parse_qsl(parts.query, keep_blank_values=True))
        fields |= dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        self.seen.append((parts.path.rpartition("/")[2], fields, status))
        return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())

    async def saw(self, n: int) -> list[tuple[str, dict[str, str], int]]:
        """Wait for ``n`` answered requests; returns those after the last ``n`` that were asked for."""
        await self.until(lambda: len(self.seen) >= n, f"{n} requests, not {len(self.seen)}")
        seen, self.seen = self.seen, []
        return seen


async def send(side: Running, request: SendRequest) -> Answered:
    """Make one of courier's requests."""
    headers: Any = dict(request.headers)
    return await side.request(request.method, request.url, request.body or None, headers=headers)
