"""The private Redis server."""

from __future__ import annotations

import pytest

from tools.servers.process import ProcessError
from tools.servers.redis import RedisServer, commands


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


def test_commands() -> None:
    """Commands run without redis-cli, with a password and in a database; one that is refused is an error."""
    with RedisServer(requirepass="wo/rd") as server:
        url = f"redis://:wo%2Frd@{server.host}:{server.port}/3"
        lines = [("SET", "name", "v\u00e9"), ("GET", "name"), ("GET", "none"), ("SADD", "set", "a", "b")]
        assert commands(url, lines) == ["OK", "v\u00e9", None, 2]
        with pytest.raises(ValueError, match="INCR"):
            commands(url, [("INCR", "set")])
        with pytest.raises(ValueError, match="SELECT"):
            commands(f"redis://{server.host}:{server.port}/3", lines)


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
