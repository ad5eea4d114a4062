"""Counts of calls within a quota: the slots, and the stores that processes share."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.delivery.shared_quota import MARGIN, QuotaStore
from junebug_turn.state.quota_slots import Slots, kept_for, take
from tests.support.store_harness import MemoryStores, RedisStores, SqliteStores, Stores, in_thread, result

HOUR = 3600.0


@given(
    calls=st.integers(1, 20),
    seconds=st.floats(0.1, 1000),
    asked=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5), st.floats(0, 1)), max_size=60),
)
def test_no_window_has_more(calls: int, seconds: float, asked: list[tuple[float, int, float]]) -> None:
    """However the calls are asked for, and whenever within the margin the service counts each: no window of the
    quota's time has more of them."""
    slots: Slots = {}
    now, counted = 1e9, []
    for pause, wanted, late in asked:
        now += pause * seconds / 2
        slots, taken, wait = take(slots, now, calls, seconds, wanted)
        assert taken <= wanted
        assert (taken == 0) == (wait > 0)
        counted += [now + late * MARGIN * seconds] * taken
        assert len(slots) <= 66
    for moment in counted:
        assert sum(moment <= other < moment + seconds * 0.999999 for other in counted) <= calls


@given(st.integers(1, 100), st.floats(0.1, 1000))
def test_the_whole_quota_is_used(calls: int, seconds: float) -> None:
    """All calls can be taken at once, and again after the time that the wait says, which is 5 % longer at most."""
    slots, taken, _ = take({}, 1e9, calls, seconds, calls + 5)
    assert taken == calls
    slots, taken, wait = take(slots, 1e9, calls, seconds, 1)
    assert taken == 0
    assert seconds - 1e-3 <= wait <= kept_for(seconds) + 1e-3 < seconds * 1.05 + 1e-2
    assert take(slots, 1e9 + wait + 1e-3, calls, seconds, calls)[1] == calls


def test_a_clock_that_is_set_back() -> None:
    """Slots of the future, from before the clock was set back, hold up nothing."""
    slots, _, _ = take({}, 1e9 + HOUR, 3, 60, 3)
    assert take(slots, 1e9, 3, 60, 3)[1] == 3


@pytest.fixture(params=[SqliteStores, RedisStores])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    stores = request.param()
    yield stores
    stores.stop()


def quotas(stores: Stores, connector: str) -> QuotaStore:
    found = stores.make(connector=connector).quotas()
    assert found is not None
    return found


@in_thread
def test_stores_share_a_quota(stores: Stores) -> None:
    """The applications and processes with one store take calls from the same quota, whatever their connectors are;
    another quota has its own."""
    one, other = quotas(stores, "a"), quotas(stores, "b")
    assert result(one.take_calls("q", 5, HOUR, 3)) == (3, 0)
    assert result(other.take_calls("q", 5, HOUR, 3)) == (2, 0)
    for each in (one, other):
        taken, wait = result(each.take_calls("q", 5, HOUR, 1))
        assert taken == 0
        assert HOUR - 60 < wait <= kept_for(HOUR)
    assert result(other.take_calls("another", 5, HOUR, 3)) == (3, 0)


@in_thread
def test_calls_come_back(stores: Stores) -> None:
    """When the time is over there are calls again."""
    store = quotas(stores, "a")
    start = time.monotonic()
    assert result(store.take_calls("q", 2, 0.3, 5)) == (2, 0)
    while not (found := result(store.take_calls("q", 2, 0.3, 5)))[0]:
        stores.advance(0.02)
        time.sleep(0.005)
        assert time.monotonic() < start + 30
    assert found == (2, 0)


def test_memory_is_not_shared() -> None:
    """The store in memory counts no calls for others."""
    stores = MemoryStores()
    assert stores.make().quotas() is None
    stores.stop()
