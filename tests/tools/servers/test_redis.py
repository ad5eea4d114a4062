"""The private Redis server."""

from __future__ import annotations

import pytest

from tools.servers.process import ProcessError
from tools.servers.redis import RedisServer


def test_data_stay_over_a_stop() -> None:
    """Data are there again after a stop and a start, and are gone with the server's close."""
    with RedisServer() as server:
        server.cli("set", "name", "value")
        server.stop()
        with pytest.raises(ProcessError, match="redis-cli ended with status"):
            server.cli("get", "name")
        server.start()
        assert server.cli("get", "name") == "value\n"
    assert not server.folder.exists()


def test_an_option_that_redis_refuses() -> None:
    """A server that doesn't start says why."""
    server = RedisServer(no_such_option="1")
    with pytest.raises(
        ProcessError, match=r"(?s)the redis ended with status 1\n--- output.log\n.*no_such_option"
    ):
        server.start()
    server.close()


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Redis isn't installed the error says so."""
    monkeypatch.setattr("tools.servers.installed.find_program", lambda name: None)
    server = RedisServer()
    with pytest.raises(ProcessError, match="redis-server is not installed"):
        server.start()
    server.close()
