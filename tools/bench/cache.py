"""Benchmark of the caches, ``make bench-cache``: their memory, speed and cost in the daemon.

1. In memory: bytes for each entry at a million of a typical SMS, and the time of a lookup at 1,000 and at 1,000,000.
2. Each cache by itself: stores and fetches in a second, 50 at a time.
3. Each cache in the daemon: outbound messages in a second over HTTP, against memory, in turns.

With ``--quick`` less of each.  3. needs ``wrk``.  Everything runs on this machine: 3. compares, and tells no capacity.
Tested by ``make bench`` in part: it measures 3. as well.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from junebug_turn.messages.vumi import Message, new_id
from junebug_turn.state.factory import make_store
from junebug_turn.state.memory import MemoryStore
from junebug_turn.state.message_store import MessageStore, OutboundRecord
from tools.bench.load import ensure_wrk
from tools.bench.measures import FOLDER, FULL, QUICK, Bench
from tools.bench.processes import NoWrk, Receiver, broker
from tools.servers import redis
from tools.servers.installed import ensure_installed

AT_ONCE = 50
TEXT = "Hello world, this is an SMS of about a hundred letters, as people write to a helpline, again"


def sms(number: int) -> Message:
    """Make a typical inbound SMS: each string is its own, as when it came from a queue."""
    body = Message(
        to_addr="+27820001001",
        from_addr=f"+2783{number:07}",
        transport_name="sms_transport_smpp",
        transport_type="sms",
        content=TEXT,
        provider="mtn",
        routing_metadata={"endpoint_name": "default"},
        helper_metadata={"session_event": None},
        message_id=new_id(),
    ).to_json()
    return Message.from_json(body)


def resident() -> int:
    """Measure this process's memory, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def memory(entries: int) -> None:
    """Measure part 1."""
    for remember_last in (False, True):
        gc.collect()
        before = resident()
        cache = MemoryStore(task.Clock(), remember_last=remember_last, max_entries=entries)
        ids: list[str] = []
        sizes = (1000, entries)
        lookups = {}
        for size in sizes:
            while len(ids) < size:
                message = sms(len(ids))
                # The benchmark's own list is not the cache's.
                ids.append(message.message_id)
                await cache.store_inbound(message)
            lookups[size] = await _lookup(cache, ids)
        gc.collect()
        own = sum(map(sys.getsizeof, ids)) + sys.getsizeof(ids)
        each = (resident() - before - own) / entries
        name = "message cache (with the last of each address)" if remember_last else "state cache"
        times = ", ".join(f"{1e6 * lookups[size]:.1f} us at {size:,}" for size in sizes)
        print(f"memory, {name}: {each:.0f} bytes an entry at {entries:,}; a lookup takes {times}", flush=True)
        await cache.stop()
        del cache, ids


async def _lookup(cache: MessageStore, ids: list[str]) -> float:
    """Measure the seconds of a lookup, in the best of several rounds: the machine's other work disturbs the rest."""
    chosen = random.Random(1).sample(ids, 1000)
    rounds = []
    for _ in range(21):
        began = time.perf_counter()
        for message_id in chosen:
            await cache.fetch_inbound(message_id)
        rounds.append((time.perf_counter() - began) / len(chosen))
    return min(rounds)


@contextmanager
def configs() -> Iterator[dict[str, dict[str, Any]]]:
    """The options of each kind of cache, with a private Redis."""
    ensure_installed(redis.PROGRAM)
    # On a disk: /tmp may be in memory.
    with redis.RedisServer() as server, tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        yield {"memory": {}, "sqlite": {"path": f"{folder}/cache.db"}, "redis": {"url": server.url}}


async def alone(reactor: Any, kinds: dict[str, dict[str, Any]], count: int) -> None:
    """Measure part 2."""
    for kind, config in kinds.items():
        cache = make_store(kind, config, option="state_cache", connector="alone", clock=reactor)
        await cache.start()
        messages = [sms(number) for number in range(count)]
        await cache.store_inbound(messages[0])
        rates = []
        for work in (
            lambda message: cache.store_outbound(  # noqa: B023
                OutboundRecord(message.message_id, message.to_addr, "http://localhost/event")
            ),
            lambda message: cache.fetch_outbound(message.message_id),  # noqa: B023
        ):
            left = iter(messages)

            async def one(left: Any = left, work: Any = work) -> None:
                for message in left:
                    await work(message)

            began = time.perf_counter()
            await gatherResults([Deferred.fromCoroutine(one()) for _ in range(AT_ONCE)])
            rates.append(count / (time.perf_counter() - began))
        print(f"{kind}: {rates[0]:,.0f} stores and {rates[1]:,.0f} fetches in a second", flush=True)
        await cache.stop()


def in_daemon(bench: Bench, kinds: dict[str, dict[str, Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Measure part 3: a daemon for each kind, all at the same time, loaded a second each in turns.

    The other work of the machine changes from second to second, so each is compared with memory in its own round.

    :returns: for each kind the median of its messages in a second, and of their part of memory's
    """
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        sides = [
            (kind, stack.enter_context(bench.daemon("junebug", kind, cache_config=config)))
            for kind, config in kinds.items()
        ]
        for _, side in sides:
            side.warm_up()
        for _ in range(rounds):
            random.shuffle(sides)
            for kind, side in sides:
                rates[kind].append(side.rate(1))
    return {
        kind: (
            statistics.median(measured),
            statistics.median(rate / base for rate, base in zip(measured, rates["memory"], strict=True)),
        )
        for kind, measured in rates.items()
    }


def main() -> None:
    """Measure all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of each")
    quick = parser.parse_args().quick
    FOLDER.mkdir(parents=True, exist_ok=True)

    async def run(reactor: Any) -> None:
        await memory(100_000 if quick else 1_000_000)
        await alone(reactor, kinds, 2_000 if quick else 10_000)

    try:
        ensure_wrk()
    except NoWrk as missing:
        raise SystemExit(str(missing)) from None
    with configs() as kinds:
        with broker() as node, Receiver(FOLDER) as receiver:
            bench = Bench(FOLDER, node, receiver, QUICK if quick else FULL)
            for kind, (rate, part) in in_daemon(bench, kinds, 3 if quick else 20).items():
                print(
                    f"daemon with {kind}: {rate:,.0f} messages in a second ({part:.0%} of memory)", flush=True
                )
        try:
            task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main()
