"""The address of a Redis server, from its URL."""

from __future__ import annotations

from typing import Any

import pytest

from junebug_turn.errors import ConfigError
from junebug_turn.state.factory import make_store
from junebug_turn.state.redis.address import RedisAddress
from tests.support.store_harness import reactor


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress("h", 6379, None, False, 0, None, None)),
        ("redis://h:1/", RedisAddress("h", 1, None, False, 0, None, None)),
        ("redis://[::1]:1/5", RedisAddress("::1", 1, None, False, 5, None, None)),
        ("redis://:p%20@h?db=4", RedisAddress("h", 6379, None, False, 4, None, "p ")),
        ("rediss://u:p@h/0", RedisAddress("h", 6379, None, True, 0, "u", "p")),
        (
            "redis+sentinel://u:p@a,b:1,[::1]:2/my%20service/3",
            RedisAddress("", 0, None, False, 3, "u", "p", (("a", 26379), ("b", 1), ("::1", 2)), "my service"),
        ),
        (
            "rediss+sentinel://a/m?sentinel_username=x&sentinel_password=p%20",
            RedisAddress("", 0, None, True, 0, None, None, (("a", 26379),), "m", "x", "p "),
        ),
        ("unix:///a%20b", RedisAddress("", 6379, "/a b", False, 0, None, None)),
        ("unix://u:p@/a?db=1", RedisAddress("", 6379, "/a", False, 1, "u", "p")),
    ],
)
def test_urls(url: str, address: RedisAddress) -> None:
    """A URL names host or socket file, port, TLS, database, user and password."""
    assert RedisAddress.from_url(url) == address
    assert "p " not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        *(5, None, "", "h:6379", "http://h", "redis://", "redis:///1", "redis://h:0", "redis://h:x"),
        *("redis://h/x", "redis://h/1?db=2", "redis://h?x=1", "redis://h/-1", "redis://h#f", "redis://u@h"),
        *("redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel://h,/m", "redis+sentinel://h:0/m"),
        *(
            "redis+sentinel://h/m/x",
            "redis+sentinel://h/m?db=1",
            "redis+sentinel://[h/m",
            "redis+sentinel:///m",
        ),
        *("unix://h/p", "unix://", "unix:///", "redis://:%ff@h", "redis://h 1", "redis://h/²"),
    ],
)
def test_bad_urls(url: Any) -> None:
    """A URL that can't be used is a line that doesn't show it."""
    with pytest.raises(ConfigError) as caught:
        make_store("redis", {"url": url}, option="state_cache", connector="c", clock=reactor)
    (line,) = caught.value.lines
    assert line.startswith("state_cache_config.url: must ")
