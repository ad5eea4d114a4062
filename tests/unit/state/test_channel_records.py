"""The records of a channel in each kind of store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from junebug_turn.messages.vumi import TransportStatus
from junebug_turn.state.channel_records import COUNTED, MAX_COMPONENTS, ChannelRecords
from tests.support.clocks import wall_clock
from tests.support.store_harness import STORES, RedisStores, Stores, in_thread, result

WINDOW = 10.0


@pytest.fixture(params=list(STORES))
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    stores = STORES[request.param]()
    yield stores
    stores.stop()


@pytest.fixture
def redis() -> Iterator[RedisStores]:
    stores = RedisStores()
    yield stores
    stores.stop()


def records_of(stores: Stores, connector: str = "sms") -> tuple[ChannelRecords, Clock]:
    """The records of a channel, and the wall clock by which they count."""
    store = stores.make(connector=connector)
    made: ChannelRecords = store.channel_records(WINDOW)
    assert store.channel_records(WINDOW) is made
    clock = Clock()
    clock.advance(1_700_000_000)
    made.wall_clock = wall_clock(clock)
    return made, clock


def status(component: str = "smpp", **fields: Any) -> TransportStatus:
    return TransportStatus(component=component, **{"status": "ok", "type": "bound"} | fields)


@in_thread
def test_statuses(stores: Stores) -> None:
    """Of each component the last status is kept, as it was; each channel has its own."""
    records, _ = records_of(stores)
    assert result(records.fetch_statuses()) == {}
    last = status(status="down", message="héllo", details={"a": [1]}, reasons=["r"])
    other = status("other")
    for each in (status(), other, last):
        result(records.store_status(each))
    assert result(records.fetch_statuses()) == {"smpp": last, "other": other}
    assert result(records_of(stores, "another")[0].fetch_statuses()) == {}


@in_thread
def test_many_components(stores: Stores) -> None:
    """The number of components is bounded; those that are kept go on being replaced."""
    records, _ = records_of(stores)
    for number in range(MAX_COMPONENTS + 2):
        result(records.store_status(status(str(number))))
    result(records.store_status(status("0", status="down")))
    found = result(records.fetch_statuses())
    assert set(found) == {str(number) for number in range(MAX_COMPONENTS)}
    assert found["0"].status == "down"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@in_thread
def test_statuses_survive(kind: str) -> None:
    """They have no end, and another process has them too."""
    stores = STORES[kind]()
    result(records_of(stores)[0].store_status(status()))
    assert set(result(records_of(stores)[0].fetch_statuses())) == {"smpp"}
    stores.stop()


@in_thread
def test_rates(stores: Stores) -> None:
    """A rate is the number of messages in a second, over the last window that is over; 0 where there was none."""
    records, clock = records_of(stores)
    for _ in range(5):
        records.count("inbound")
    records.count("delivery_pending")
    assert result(records.fetch_rates()) == dict.fromkeys(COUNTED, 0)
    clock.advance(WINDOW)
    records.count("inbound")
    assert result(records.fetch_rates()) == {
        **dict.fromkeys(COUNTED, 0),
        "inbound": 0.5,
        "delivery_pending": 0.1,
    }
    clock.advance(WINDOW)
    assert result(records.fetch_rates())["inbound"] == 0.1
    clock.advance(WINDOW)
    assert result(records.fetch_rates()) == dict.fromkeys(COUNTED, 0)


@in_thread
def test_keys_of_junebug(redis: RedisStores) -> None:
    """In Redis the keys, their form and their time to live are Junebug's, in whose place we stand."""
    records, _ = records_of(redis)
    result(records.store_status(status()))
    for name in COUNTED:
        records.count(name)
    records.count("inbound")
    result(records.fetch_rates())
    start = f"{redis.prefix}:sms"
    assert json.loads(redis.server.cli("HGET", f"{start}:status", "smpp"))["message_type"] == "status_event"
    assert redis.server.cli("TTL", f"{start}:status").strip() == "-1"
    number = 1_700_000_000 // 10
    for name in COUNTED:
        key = f"{start}:{name}:{number}"
        assert redis.server.cli("GET", key).strip() == ("2" if name == "inbound" else "1")
        assert 0 < int(redis.server.cli("TTL", key)) <= 20


@in_thread
def test_records_of_junebug(redis: RedisStores) -> None:
    """What Junebug has written is read; what can't be read is left out."""
    records, _ = records_of(redis)
    start = f"{redis.prefix}:sms"
    theirs = {"component": "c", "status": "degraded", "type": "t", "message": "m", "timestamp": "2021-01-14"}
    redis.server.cli("HSET", f"{start}:status", "c", json.dumps(theirs), "d", "damaged")
    assert {name: each.status for name, each in result(records.fetch_statuses()).items()} == {"c": "degraded"}
    redis.server.cli("SET", f"{start}:outbound:{1_700_000_000 // 10 - 1}", "25")
    assert result(records.fetch_rates())["outbound"] == 2.5


@in_thread
def test_counts_are_gathered(redis: RedisStores) -> None:
    """Counts reach Redis within about a second, without anybody who asks; those of two daemons are summed up."""
    first, clock = records_of(redis)
    second, _ = records_of(redis)
    key = f"{redis.prefix}:sms:inbound:{1_700_000_000 // 10}"
    for records in (first, second):
        for _ in range(3):
            records.count("inbound")
    for _ in range(100):
        if redis.server.cli("GET", key).strip() == "6":
            break
        time.sleep(0.1)
    assert redis.server.cli("GET", key).strip() == "6"
    clock.advance(WINDOW)
    assert result(first.fetch_rates())["inbound"] == 0.6
