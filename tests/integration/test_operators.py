"""The operators' address: its pages, and who may see them."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import pytest_twisted
import treq
from pika.adapters.blocking_connection import BlockingChannel

from tests.integration.conftest import RunDaemon
from tests.support.daemon import Running
from tools.servers.receiver import Receiver

TOKEN = "operators-t0ken-of-this-test"
PASSWORD = "operators-passw0rd-of-this-test"
AUTH = json.dumps({"tokens": [TOKEN], "users": {"anna": PASSWORD}})


async def status(url: str, **options: Any) -> int:
    response = await treq.get(url, persistent=False, timeout=60, **options)
    await response.content()
    return int(response.code)


def address(side: Running) -> str:
    """The URL of the operators' address, which is the last one."""
    return f"http://127.0.0.1:{cast(Any, side.daemon.addresses[-1]).port}"


@pytest.mark.options(admin_bind="localhost:0", base_url_path="/jb")
@pytest_twisted.ensureDeferred
async def test_pages(run_daemon: RunDaemon, receiver: Receiver) -> None:
    """An address of its own for operators: it serves /metrics and the health pages, and no application."""
    async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
        url = address(side)
        assert url != side.url
        assert [await status(url + path) for path in ("/metrics", "/health")] == [200, 200]
        assert [await status(url + path) for path in ("/jb/messages", "/nothing")] == [404, 404]


@pytest.mark.options(admin_bind="localhost:0", admin_auth=AUTH)
@pytest_twisted.ensureDeferred
async def test_authentication(
    run_daemon: RunDaemon, receiver: Receiver, pika_channel: BlockingChannel
) -> None:
    """It is guarded by admin_auth, whole; no other address is."""
    async with run_daemon("junebug", mo_message_url=receiver.url()) as side:
        url = address(side)
        for path in ("/metrics", "/health"):
            assert await status(url + path) == 401
            assert await status(url + path, headers={"Authorization": f"Token {TOKEN}"}) == 200
            assert await status(url + path, auth=("anna", PASSWORD)) == 200
            assert await status(url + path, auth=("anna", "another")) == 401
            assert await status(side.url + path) == 200
