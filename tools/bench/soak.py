"""Soak measure: the daemon's memory under a steady load with entries that expire."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from statistics import mean

from tools.bench.measures import Bench
from tools.bench.messages import inbound_body

TIMEOUT = 10  # seconds that an entry lives
MESSAGES = 500  # inbound, after each few seconds of outbound requests


def run(bench: Bench, seconds: float, say: Callable[[str], None]) -> str:
    """Load the daemon for so long; write a line about its memory in the first third, once it was full, and the last."""
    samples: list[tuple[float, int]] = []
    with bench.daemon("junebug", "memory", cache_config={"timeout": TIMEOUT}) as side:
        side.warm_up()
        start = time.monotonic()
        while (at := time.monotonic() - start) < seconds:
            side.outbound_at_rate()
            side.drained("inbound", [inbound_body(uuid.uuid4().hex, n) for n in range(MESSAGES)])
            samples.append((at, side.daemon.memory))
            say(f"{at:5.0f} s {samples[-1][1] / 1e6:8.2f} MB")
    # The first entries expire only after TIMEOUT: until then it must grow.
    steady = [memory for at, memory in samples if at > 2 * TIMEOUT]
    part = len(steady) // 3
    if not part:
        return f"too short: at least {4 * TIMEOUT} s are needed"
    first, last = mean(steady[:part]), mean(steady[-part:])
    return (
        f"memory over {seconds:.0f} s: {first / 1e6:.2f} MB, at the end {last / 1e6:.2f} MB "
        f"({last - first:+.0f} bytes)"
    )
