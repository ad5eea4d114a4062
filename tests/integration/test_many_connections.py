"""More channels of the store than one connection to the broker has AMQP channels for."""

from __future__ import annotations

import pytest
import pytest_twisted

from junebug_turn.amqp import consuming
from tests.support.channels import RunJunebug, inbound
from tests.support.daemon import until
from tools.servers.rabbitmq import RabbitNode


@pytest_twisted.ensureDeferred
async def test_channels_over_several_connections(
    run_junebug: RunJunebug, rabbitmq: RabbitNode, junebug_vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels are created at run time beyond the AMQP channels of one connection, and all of them flow, also after the
    broker has closed all connections."""
    monkeypatch.setattr(consuming, "CHANNELS", 5)
    async with run_junebug() as side:
        ids = [await side.create(mo_url=side.receiver.url()) for _ in range(3)]
        consumers = 3 * len(ids)

        def live() -> bool:
            status = side.daemon.broker.status()
            return bool(status["connected"]) and sum(status["consumers"].values()) == consumers

        await until(live, "all consumers")
        listed = rabbitmq.ctl("list_connections", "vhost", "client_properties")
        assert listed.count("junebug-turn consuming") >= 3
        for number in range(2):
            for id in ids:
                side.of(id).publish("inbound", inbound(id, number))
            await side.receiver.received(len(ids) * (number + 1))
            for connection in side.daemon.broker._consuming:  # private: the test's own connection is to stay
                assert connection.protocol is not None
                connection.protocol.abort("a test")
            await until(live, "all consumers again")
