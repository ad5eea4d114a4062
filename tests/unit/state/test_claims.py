"""The claims of requests in each kind of store that processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from junebug_turn.errors import UnreadableEntry
from junebug_turn.state.claims import Claim, Claims
from tests.support.claims import MemoryClaims
from tests.support.store_harness import (
    STORES,
    MemoryStores,
    RedisStores,
    SqliteStores,
    Stores,
    in_thread,
    result,
)

KEY = b"key"
FIRST, SECOND = Claim("first", b"\x01\x02"), Claim("second", b"\x01\x02")


class _MemoryClaims(Stores):
    """Those of the tests' own claims in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = MemoryClaims(self.clock)

    def stop(self) -> None:
        pass


@pytest.fixture(params=["sqlite", "redis", "tests"])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    stores = _MemoryClaims() if request.param == "tests" else STORES[request.param]()
    yield stores
    stores.stop()


def claims_of(stores: Stores, connector: str = "sms") -> Claims:
    """The claims of a process of its own."""
    if isinstance(stores, _MemoryClaims):
        return stores.claims
    claims = stores.make(connector=connector).claims()
    assert claims is not None
    return claims


def test_memory() -> None:
    """No other process has what is in memory, and none that starts later."""
    stores = MemoryStores()
    assert stores.make().claims() is None
    stores.stop()


@in_thread
def test_claim(stores: Stores) -> None:
    """A key that is claimed is claimed for every process; one's own claim is in front of nothing."""
    one, other = claims_of(stores), claims_of(stores)
    assert result(one.claim(KEY, FIRST, 30)) is None
    assert result(other.claim(KEY, SECOND, 30)) == FIRST
    assert result(one.claim(KEY, FIRST, 30)) is None
    assert result(other.claim(b"another key", SECOND, 30)) is None


@in_thread
def test_connectors(stores: Stores) -> None:
    """A key belongs to one connector."""
    if isinstance(stores, _MemoryClaims):
        pytest.skip("it has one connector")
    assert result(claims_of(stores).claim(KEY, FIRST, 30)) is None
    assert result(claims_of(stores, "other").claim(KEY, SECOND, 30)) is None


@in_thread
def test_at_the_same_moment(stores: Stores) -> None:
    """Of several processes that claim a key at the same moment one has it."""
    claims = [claims_of(stores) for _ in range(4)]

    async def race() -> list[Claim | None]:
        return list(
            await gatherResults(
                Deferred.fromCoroutine(each.claim(KEY, Claim(f"{number}"), 30))
                for number, each in enumerate(claims)
            )
        )

    found = result(race())
    assert found.count(None) == 1
    assert {each for each in found if each} == {Claim(str(found.index(None)))}


@in_thread
def test_result(stores: Stores) -> None:
    """A result is known to every process until its time is over; then the key is free."""
    one, other = claims_of(stores), claims_of(stores)
    result(one.claim(KEY, FIRST, 30))
    done = evolve(FIRST, result='{"héllo": "\\ud83d"}\n'.encode())
    result(one.update({KEY: done}, 600))
    stores.advance(599)
    assert result(other.claim(KEY, SECOND, 30)) == done
    stores.advance(2)
    assert result(other.claim(KEY, SECOND, 30)) is None


@in_thread
def test_claim_that_is_not_renewed(stores: Stores) -> None:
    """A claim is over after its time, unless it is stored again."""
    claims = claims_of(stores)
    result(claims.claim(KEY, FIRST, 30))
    stores.advance(20)
    result(claims.update({KEY: FIRST}, 30))
    stores.advance(20)
    assert result(claims.claim(KEY, SECOND, 30)) == FIRST
    stores.advance(11)
    assert result(claims.claim(KEY, SECOND, 30)) is None


@in_thread
def test_claim_of_another(stores: Stores) -> None:
    """A claim that was over, and taken by another owner, is neither updated nor removed by the former one."""
    claims = claims_of(stores)
    result(claims.claim(KEY, SECOND, 30))
    result(claims.update({KEY: evolve(FIRST, result=b"{}")}, 600))
    result(claims.remove(KEY, FIRST.owner))
    assert result(claims.claim(KEY, FIRST, 30)) == SECOND


@in_thread
def test_remove(stores: Stores) -> None:
    """A claim whose request failed is removed, and the key is free; one that is gone is removed without a fault."""
    claims = claims_of(stores)
    result(claims.claim(KEY, FIRST, 30))
    for _ in range(2):
        result(claims.remove(KEY, FIRST.owner))
    assert result(claims.claim(KEY, SECOND, 30)) is None


@in_thread
def test_answered(stores: Stores) -> None:
    """The result of a request that was answered is for those that waited for it; for all others the key is free."""
    claims = claims_of(stores)
    result(claims.claim(KEY, FIRST, 30))
    answered = evolve(FIRST, result=b"{}", answered=True)
    result(claims.update({KEY: answered}, 30))
    assert result(claims.claim(KEY, SECOND, 30, awaited=FIRST.owner)) == answered
    assert result(claims.claim(KEY, SECOND, 30, awaited="another")) is None


@in_thread
def test_sqlite_survives() -> None:
    """Claims in SQLite survive the process."""
    stores = SqliteStores()
    store = stores.make()
    claims = store.claims()
    assert claims is not None
    result(claims.claim(KEY, FIRST, 30))
    result(store.stop())
    stores.stores.remove(store)
    assert result(claims_of(stores).claim(KEY, SECOND, 30)) == FIRST
    stores.stop()


@pytest.mark.parametrize("value", ["", "5", "{}", "[]", '["o"]', '["o", "no hex", null, false]', "["])
@in_thread
def test_foreign_value(value: str) -> None:
    """A value in Redis that is no claim is in front of none."""
    stores = RedisStores()
    claims = claims_of(stores)
    result(claims.claim(KEY, FIRST, 30))
    (name,) = stores.server.cli("KEYS", f"{stores.prefix}:sms:requests:*").split()
    stores.server.cli("SET", name, value, "EX", "60")
    assert result(claims.claim(KEY, SECOND, 30)) is None
    assert result(claims.claim(KEY, FIRST, 30)) == SECOND
    stores.stop()


def test_packing() -> None:
    """A claim is as it was after packing; anything else is unreadable."""
    for claim in (FIRST, Claim("o", b"", b"x", True)):
        assert Claim.from_json(claim.to_json()) == claim
    for packed in (b"", b"[]", b'["o","",5,false]', b"\xff"):
        with pytest.raises(UnreadableEntry):
            Claim.from_json(packed)
