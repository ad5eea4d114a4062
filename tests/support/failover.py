"""Three sentinels, the Redis that they watch, and its replica."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from attrs import frozen

from tools.servers.redis import RedisServer, Sentinel


@frozen
class Failover:
    """Servers that Sentinel watches.

    :ivar servers: the primary, then the replica
    """

    servers: tuple[RedisServer, RedisServer]
    sentinels: tuple[Sentinel, ...]

    @property
    def url(self) -> str:
        """The address as the option ``url`` has it."""
        hosts = ",".join(f"{each.host}:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{Sentinel.service}"


@contextmanager
def failover(password: str = "", sentinel_password: str = "") -> Iterator[Failover]:
    """Servers and sentinels that know each other.

    :param password: of the servers
    :param sentinel_password: of the sentinels
    """
    login = {"requirepass": password, "masterauth": password} if password else {}
    primary = RedisServer(**login, **{"repl-diskless-sync-delay": "0"})
    replica = RedisServer(replicaof=f"{primary.host} {primary.port}", **login)
    asked = {"requirepass": sentinel_password} if sentinel_password else {}
    if password:
        asked[f"sentinel auth-pass {Sentinel.service}"] = password
    with ExitStack() as stack:
        stack.enter_context(primary)
        stack.enter_context(replica)
        # One that has not all of the primary's data would lose them at the failover.
        _wait(lambda: f"port={replica.port},state=online" in _ask(primary, password, "INFO", "replication"))
        sentinels = tuple(stack.enter_context(Sentinel(primary, **asked)) for _ in range(3))
        found = Failover((primary, replica), sentinels)
        if not sentinel_password:
            _wait(lambda: all(_knows_all(each) for each in sentinels))
        yield found


def _ask(server: RedisServer, password: str, *command: str) -> str:
    return server.cli(*(("-a", password, "--no-auth-warning") if password else ()), *command)


def _knows_all(sentinel: Sentinel) -> bool:
    """Whether a sentinel knows the replica and both others."""
    state = sentinel.cli("SENTINEL", "MASTER", Sentinel.service).split("\n")
    known = dict(zip(state[::2], state[1::2], strict=False))
    return (known.get("num-slaves"), known.get("num-other-sentinels")) == ("1", "2")


def _wait(condition: Callable[[], bool], limit: float = 60) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"waited {limit} s in vain"
        time.sleep(0.05)
