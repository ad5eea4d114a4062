"""Store of channels in a Redis, in Junebug's keys:

- ``channels``: a set of ids; ``<id>:properties``: the JSON of a channel
- ``routers``: a set of ids; ``routers:<id>``: the JSON of a router
- ``routers:<id>:destinations``: a set of ids; ``routers:<id>:destinations:<id>``: the JSON of a destination

Tested by tests/unit/state/test_channel_store.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from txredisapi import RedisError

from junebug_turn.messages import strictjson
from junebug_turn.state.channel_store import (
    CHANNELS,
    DESTINATIONS,
    REFUSAL,
    ROUTERS,
    ChannelStore,
    Definition,
    Key,
)
from junebug_turn.state.failures import FailureMonitor
from junebug_turn.state.options import CACHE_TIMEOUT
from junebug_turn.state.redis.address import RedisAddress
from junebug_turn.state.redis.errors import remedy
from junebug_turn.state.redis.pool import RedisPool

# ARGV: the prefix of all keys, a revision.  Returns the revision, and if it is another one kind, router, id and text of
# each definition, each after its length.  They are one string, since txredisapi takes 30 microseconds for each value.
_FETCH = f"""
local prefix, found = ARGV[1], {{}}
local function members(key)
    local ids = redis.pcall('SMEMBERS', key)
    if ids.err then
        return {{}}
    end
    table.sort(ids)
    return ids
end
local function add(kind, router, id, key)
    local text = redis.pcall('GET', key)
    if type(text) == 'string' then
        for _, each in ipairs({{kind, router, id, text}}) do
            found[#found + 1] = each
        end
    end
end
for _, id in ipairs(members(prefix .. 'channels')) do
    add('{CHANNELS}', '', id, prefix .. id .. ':properties')
end
for _, router in ipairs(members(prefix .. 'routers')) do
    local key = prefix .. 'routers:' .. router
    add('{ROUTERS}', '', router, key)
    for _, id in ipairs(members(key .. ':destinations')) do
        add('{DESTINATIONS}', router, id, key .. ':destinations:' .. id)
    end
end
local lengths = {{}}
for number, each in ipairs(found) do
    lengths[number] = #each .. ':' .. each
end
local all = table.concat(lengths)
local revision = redis.sha1hex(all)
return revision == ARGV[2] and {{revision}} or {{revision, all}}
"""

# KEYS: the set, the definition.  ARGV: the id, the new text, "=" and the former text, or nothing where there is none.
# It can run twice, since its answer may be lost.
_REPLACE = """
local before = redis.call('GET', KEYS[2])
before = before and '=' .. before or ''
if before ~= ARGV[3] and before ~= '=' .. ARGV[2] then
    return 0
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SADD', KEYS[1], ARGV[1])
return 1
"""

# KEYS: the set, the definition, the set of its destinations.  ARGV: the id.
_REMOVE = """
for _, id in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    redis.call('DEL', KEYS[3] .. ':' .. id)
end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SREM', KEYS[1], ARGV[1])
"""


class RedisChannelStore(ChannelStore):
    """A store of channels in a Redis.

    :param key_prefix: the beginning of all keys, which a colon follows; empty for none
    :param cache_timeout: seconds that an operation may take
    """

    def __init__(
        self, reactor: Any, *, url: RedisAddress, key_prefix: str = "", cache_timeout: float = CACHE_TIMEOUT
    ) -> None:
        super().__init__()
        self._prefix = f"{key_prefix}:" if key_prefix else ""
        self._pool = RedisPool(reactor, url, cache_timeout)
        self._monitor = FailureMonitor(
            reactor,
            f"the store of channels, {url.name},",
            cache_timeout,
            (RedisError,),
            remedy,
            refusal=REFUSAL,
        )

    async def start(self) -> None:
        self._pool.start()

    async def stop(self) -> None:
        await self._pool.stop()

    def status(self) -> Mapping[str, Any]:
        fault = self._pool.fault(self._monitor.fault)
        return {"ok": fault is None, "fault": fault, "failures": self._monitor.failures}

    async def replace(self, key: Key, before: Definition | None, properties: Mapping[str, Any]) -> bool:
        members, text = self._keys(key)
        expected = b"" if before is None else b"=" + before.text
        return bool(
            await self._eval(
                _REPLACE, [members, text], [key.id, strictjson.dumps(dict(properties)), expected]
            )
        )

    async def remove(self, key: Key) -> None:
        members, text = self._keys(key)
        await self._eval(_REMOVE, [members, text, f"{text}:{DESTINATIONS}"], [key.id])

    async def _read(self, revision: str) -> tuple[str, Iterable[tuple[Key, bytes]]] | None:
        found, *definitions = await self._eval(_FETCH, [], [self._prefix, revision])
        return (found.decode(), _texts(*definitions)) if definitions else None

    def _keys(self, key: Key) -> tuple[str, str]:
        """Return the key of the set that has an id, and that of its definition."""
        if key.kind == CHANNELS:
            return f"{self._prefix}channels", f"{self._prefix}{key.id}:properties"
        if key.kind == ROUTERS:
            return f"{self._prefix}routers", f"{self._prefix}routers:{key.id}"
        members = f"{self._prefix}routers:{key.router}:{DESTINATIONS}"
        return members, f"{members}:{key.id}"

    async def _eval(self, script: str, keys: list[str], args: list[str | bytes]) -> Any:
        packed = [arg.encode() if isinstance(arg, str) else arg for arg in args]
        return await self._monitor.run(self._pool.run("eval", script, [key.encode() for key in keys], packed))


def _texts(definitions: bytes) -> Iterator[tuple[Key, bytes]]:
    for kind, router, id, text in zip(*[_values(definitions)] * 4, strict=True):
        try:
            yield Key(kind.decode(), id.decode(), router.decode()), text
        except UnicodeDecodeError:
            continue  # no path could name it


def _values(joined: bytes) -> Iterator[bytes]:
    """Yield values, of which each stands after its length and a colon."""
    end = 0
    while end < len(joined):
        begin = joined.index(b":", end) + 1
        length = int(joined[end : begin - 1])
        end = begin + length
        yield joined[begin:end]
