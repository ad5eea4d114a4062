"""A store of many channels: the start, and a change of one of them beside the traffic of the others."""

from __future__ import annotations

import json
import os
import time
import uuid
from statistics import median, quantiles

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.channels import RunJunebug, inbound, reactor, redis_options
from tests.support.daemon import until
from tests.support.store_harness import redis_server

# The whole proof has 500 channels, and bounds for a machine with nothing else to do: LARGE=1, or `make large`.
LARGE = bool(os.environ.get("LARGE"))
CHANNELS = 500 if LARGE else 40
ROUNDS = 20 if LARGE else 5
COPIES = 10 if LARGE else 2
"""Messages of each channel in a round."""

INTERVAL = 0.05
"""Seconds between two of these."""

PATIENCE = 4.5
"""Seconds in which half of the rounds end also on a busy machine: less than the 5 s of a consumer's end."""

CHANGES = (
    {"label": "another"},
    {"amqp_queue": "many-channels-1"},
    {"mo_url": "http://127.0.0.1:1/other"},
    {"amqp_queue": "many-channels-2"},
)


def fill(prefix: str, url: str) -> list[str]:
    """Put channels into Redis, as Junebug has them; returns their ids."""
    ids = [str(uuid.uuid4()) for _ in range(CHANNELS)]
    properties = json.dumps(
        {
            "type": "smpp",
            "label": "a channel",
            "config": {"system_id": "s", "password": "p", "twisted_endpoint": "tcp:host=smsc:port=2775"},
            "mo_url": url,
        }
    )
    commands = [f"SADD {prefix}:channels {id}\nSET {prefix}:{id}:properties '{properties}'\n" for id in ids]
    redis_server().cli(stdin="".join(commands))
    return ids


@pytest_twisted.ensureDeferred
async def test_many_channels(run_junebug: RunJunebug) -> None:
    """All channels of a store run soon after the start, are listed at once, and a change to one of them takes effect
    at once, also one that has other consumers, while no message of another one is late."""
    prefix = uuid.uuid4().hex
    receiver_url = "http://127.0.0.1:1/"
    ids = fill(prefix, receiver_url)
    began, cpu = time.monotonic(), time.process_time()
    async with run_junebug(**redis_options(prefix), channels_cache_timeout=30) as side:
        await until(
            lambda: sum(side.daemon.broker.status()["consumers"].values()) == 3 * CHANNELS, "all", limit=100
        )
        start, start_cpu = time.monotonic() - began, time.process_time() - cpu
        began = time.monotonic()
        listed = (await side.call("GET", "/channels/")).body["result"]
        listing = time.monotonic() - began
        assert listed == sorted(ids)
        flowing, changed = ids[:10], ids[-1]
        for id in flowing:
            answer = await side.call("POST", f"/channels/{id}", {"mo_url": side.receiver.url(f"/{id}")})
            assert answer.status == 200
        changes, worst = [], []
        # Of the messages beside a change, and of those without one, for comparison.
        beside: list[float] = []
        alone: list[float] = []
        sent: dict[str, float] = {}

        async def send() -> None:
            for _ in range(COPIES):
                for id in flowing:
                    # A contact each: those of one wait for each other.
                    message = inbound(id, len(sent))
                    sent[message.content or ""] = reactor.seconds()
                    side.of(id).publish("inbound", message)
                await deferLater(reactor, INTERVAL)

        for number in range(2 * ROUNDS):
            changing = number % 2 == 0
            sending = Deferred.fromCoroutine(send())
            if changing:
                began = reactor.seconds()
                answer = await side.call("POST", f"/channels/{changed}", CHANGES[number // 2 % len(CHANGES)])
                assert answer.status == 200
                changes.append(reactor.seconds() - began)
            await sending
            got = (await side.receiver.received(len(sent)))[number * COPIES * len(flowing) :]
            delays = [each.seconds - sent[each.json["content"]] for each in got]
            if changing:
                worst.append(max(delays))
            (beside if changing else alone).extend(delays)
        late, late_alone = (quantiles(each, n=100)[98] for each in (beside, alone))
        figures = (
            f"{CHANNELS} channels: started in {start:.1f} s ({start_cpu:.1f} s of CPU), listed in {listing:.3f} s, "
            f"a change in {max(changes):.3f} s at most; of {len(beside)} messages of others beside it 99 % in "
            f"{late:.3f} s, all in {max(beside):.3f} s; without a change 99 % in {late_alone:.3f} s"
        )
        print(figures)
        # Not the worst: a machine that is busy stops for a moment.  Who waits for a change does so in each round.
        assert median(worst) < PATIENCE, figures
        assert median(changes) < PATIENCE, figures
        if LARGE:
            assert start < 10, figures
            assert listing < 0.5, figures
            assert max(changes) < 0.5, figures
            assert late < 0.5, figures
