"""A failover of Redis, which Sentinel makes, in the middle of a load."""

from __future__ import annotations

import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.threads import deferToThread

from tests.integration.test_stores import PATH, Conversations, Start, started  # noqa: F401  (a fixture)
from tests.support.daemon import until
from tests.support.failover import failover
from tools.servers.receiver import Receiver


@pytest_twisted.ensureDeferred
async def test_a_failover_under_load(
    started: Start,  # noqa: F811
    connector_name: str,
    pika_channel: BlockingChannel,
    receiver: Receiver,
) -> None:
    """With redis+sentinel:// a failover in the middle of a load costs no message, no reply and no event: where
    cache_timeout is longer than it, all wait for the new primary; what fails is answered with 503 or tried again."""
    with failover() as found:
        async with started("redis", {"url": found.url, "cache_timeout": 30}) as side:
            load = Conversations(200, connector_name, pika_channel, receiver, f"{side.url}{PATH}/messages")
            load.begin()
            await load.run(lambda: len(load.replies) > 50)
            primary, replica = found.servers
            # A primary that is told to stop has its replica catch up first.
            stopping = deferToThread(primary.stop)
            await load.run(lambda: bool(stopping.called))
            await load.run(load.done, 40)
            assert set(load.inbound) == set(load.messages)
            assert set(load.events) == {(f"/events/{load.acked[sent]}", sent) for sent in load.acked}
            await load.close()
            assert "role:master" in replica.cli("INFO", "replication")
            assert int(replica.cli("DBSIZE")) > 200
            await until(lambda: side.daemon.health()["cache"]["state"] == "ok", "the cache to be well")
