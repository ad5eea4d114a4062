"""Channels whose queues the broker refuses."""

from __future__ import annotations

import pytest_twisted

from tests.support.channels import RunJunebug
from tests.support.daemon import until
from tools.servers.rabbitmq import RabbitNode

CREATE = {"type": "telnet", "config": {}}


@pytest_twisted.ensureDeferred
async def test_refused_queues(run_junebug: RunJunebug, rabbitmq: RabbitNode, junebug_vhost: str) -> None:
    """What the broker refuses is an error in the envelope that says so, never a silent success: a new channel is not
    there afterwards, a change of one is stored, and takes effect when the broker has the queues."""

    def allow(queues: str) -> None:
        rabbitmq.ctl("set_permissions", "-p", junebug_vhost, rabbitmq.username, queues, ".*", ".*")

    async with run_junebug() as side:
        id = await side.create(mo_url=side.receiver.url())
        allow("^(?!closed)")
        for path, status in (("/channels/", "it is not created"), (f"/channels/{id}", "it is stored")):
            answer = await side.call("POST", path, {**CREATE, "amqp_queue": "closed"})
            assert (answer.status, answer.body["description"]) == (503, "queues refused")
            (error,) = answer.body["result"]["errors"]
            assert error["type"] == "QueuesRefused"
            assert error["message"].startswith(status)
            assert "the queue closed.outbound can't be declared: 403 ACCESS_REFUSED" in error["message"]
        assert (await side.call("GET", "/channels/")).body["result"] == [id]
        assert (await side.call("POST", f"/channels/{id}/restart")).status == 503
        allow(".*")
        restarted = await side.call("POST", f"/channels/{id}/restart")
        assert restarted.status == 200, restarted
        await until(lambda: side.daemon.broker.status()["consumers"].get("closed.outbound"), "the consumer")
