"""Errors of Redis: a real server in each state, what becomes of the connections, and the operator's line.

The errors that give up the connections are in ``test_failover``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from junebug_turn.state.redis.errors import MEANINGS, Kind, meaning, remedy
from tests.support.daemon import until
from tests.support.store_harness import message, refused
from tests.unit.state.conftest import Lines
from tools.servers.process import free_port
from tools.servers.redis import RedisServer

Private = Callable[..., RedisServer]


def clients(server: RedisServer) -> set[str]:
    """The ids of the connections of stores."""
    lines = server.cli("CLIENT", "LIST", "TYPE", "normal").splitlines()
    return {line.split()[0] for line in lines if line and "cmd=client" not in line}


# Passing


@pytest_twisted.ensureDeferred
async def test_loading(private: Private, make: Any) -> None:
    """A server that reads its data refuses commands, over connections that stay; when it has read them it works."""
    server = private(**{"enable-debug-command": "local", "loading-process-events-interval-bytes": "1024"})
    server.cli("EVAL", "for i = 1, 300 do redis.call('SET', 'key' .. i, string.rep('x', 900)) end", "0")
    store = await make(server.url)
    await store.store_inbound(message("before"))
    before = clients(server)
    server.cli("CONFIG", "SET", "key-load-delay", "10000")
    reloading = deferToThread(server.cli, "DEBUG", "RELOAD")
    await refused(store, "LOADING")
    await reloading
    await store.store_inbound(message("after"))
    assert before <= clients(server)


@pytest_twisted.ensureDeferred
async def test_busy(private: Private, make: Any) -> None:
    """A server that is busy with a script refuses commands, over connections that stay."""
    server = private(**{"lua-time-limit": "50"})
    store = await make(server.url)
    await store.store_inbound(message("before"))
    before = clients(server)
    running = deferToThread(server.cli, "EVAL", "while true do end", "0")
    await refused(store, "BUSY")
    server.cli("SCRIPT", "KILL")
    await running
    await store.store_inbound(message("after"))
    assert before <= clients(server)


@pytest_twisted.ensureDeferred
async def test_cluster_without_slots(private: Private, make: Any) -> None:
    """A cluster that is down refuses commands; it can be up again."""
    server = private(**{"cluster-enabled": "yes", "cluster-port": str(free_port())})
    store = await make(server.url)
    await refused(store, "CLUSTERDOWN")
    server.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    await until(lambda: "cluster_state:ok" in server.cli("CLUSTER", "INFO"))
    await store.store_inbound(message("after"))


# Set up wrongly


def out_of_memory(server: RedisServer, wrong: bool) -> None:
    server.cli("CONFIG", "SET", "maxmemory", "1" if wrong else "0")


def unable_to_save(server: RedisServer, wrong: bool) -> None:
    server.cli("CONFIG", "SET", "save", "900 1" if wrong else "")
    if wrong:
        (server.folder / "dump.rdb").mkdir()
        server.cli("BGSAVE")


def without_rights(server: RedisServer, wrong: bool) -> None:
    sign = "-" if wrong else "+"
    server.cli("ACL", "SETUSER", "default", f"{sign}eval", f"{sign}evalsha")


@pytest.mark.parametrize(
    ("word", "set_up", "hint"),
    [
        ("OOM", out_of_memory, "raise maxmemory"),
        ("MISCONF", unable_to_save, "can't save to its disk"),
        ("NOPERM", without_rights, "needs more rights"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_set_up_wrongly(
    private: Private,
    make: Any,
    lines: Lines,
    word: str,
    set_up: Callable[[RedisServer, bool], None],
    hint: str,
) -> None:
    """A server that is set up wrongly keeps its connections; one line says what to change, as health does; once it is
    changed the store works."""
    server = private()
    store = await make(server.url)
    await store.store_inbound(message("before"))
    before = clients(server)
    set_up(server, True)
    await refused(store, word)
    await refused(store, word)
    assert hint in store.status()["fault"]
    (line,) = (line for line in lines if line.startswith("warn"))
    assert word in line
    assert hint in line
    set_up(server, False)
    await store.store_inbound(message("after"))
    assert store.status()["ok"] is True
    assert before <= clients(server)


@pytest_twisted.ensureDeferred
async def test_part_of_a_cluster(private: Private, make: Any) -> None:
    """A node of a cluster that sends us elsewhere is an error that says so."""
    options = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no"}
    here, there = (private(**options, **{"cluster-port": str(free_port())}) for _ in range(2))
    there.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    bus = there.cli("CONFIG", "GET", "cluster-port").split()[1]
    here.cli("CLUSTER", "MEET", there.host, str(there.port), bus)
    store = await make(here.url)
    await refused(store, "MOVED")
    assert "Cluster is not supported" in store.status()["fault"]


@pytest.mark.parametrize(
    ("credentials", "hint"), [("", "wants a password"), (":wrong@", "correct user and password")]
)
@pytest_twisted.ensureDeferred
async def test_wrong_credentials(
    private: Private, make: Any, lines: Lines, credentials: str, hint: str
) -> None:
    """A password that is missing or wrong is a line and a fault that say what to change."""
    server = private(requirepass="right")
    store = await make(f"redis://{credentials}{server.host}:{server.port}", cache_timeout=0.5)
    await until(lambda: hint in str(store.status()["fault"]))
    (line,) = lines
    assert hint in line


# The table


@pytest.mark.parametrize("word", MEANINGS)
def test_words(word: str) -> None:
    """An error is known by its first word: alone, inside of a script's (before Redis 7), and after our own words."""
    script = "ERR Error running script (call to f_ab12): @user_script:2: @user_script: 2: "
    for text in (f"{word} text", f"{script}-{word} text", f"Redis error: could not auth: {word} text"):
        assert meaning(text) is MEANINGS[word]


@pytest.mark.parametrize(
    "text",
    ["", "ERR unknown", "WRONGTYPE Operation", "ERR a key READONLY", "ERR max number of clients reached"],
)
def test_other_errors(text: str) -> None:
    """Any other error may pass."""
    assert meaning(text).kind is Kind.PASSING
    assert remedy(text) is None


def test_remedies() -> None:
    """What is set up wrongly, and nothing else, has a remedy."""
    assert {each.kind is Kind.SETUP for each in MEANINGS.values() if each.remedy} == {True}
    assert all(each.remedy for each in MEANINGS.values() if each.kind is Kind.SETUP)
