"""Lua scripts that Redis runs in one step each, so that no key of a message or a counter ever exists without
an expiry.

A key's time to live is in milliseconds.  The hash of an inbound message has ``from_addr`` only in a store that
remembers the last message of an address: ``=`` and the address, or empty for a message without one.
"""

# KEYS: a hash.  ARGV: a field, its value, the time to live.
STORE_FIELD = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""

# KEYS: an outbound message's hash.  ARGV: an event's field, its value, the time to live, the number of events that are
# kept: the ones with the latest timestamps, which vumi writes in an order of their own.
STORE_EVENT = (
    STORE_FIELD
    + """
local kept = tonumber(ARGV[4])
if redis.call('HLEN', KEYS[1]) <= kept then
    return
end
local events = {}
local fields = redis.call('HGETALL', KEYS[1])
for at = 1, #fields, 2 do
    if fields[at] ~= 'message' then
        local read, event = pcall(cjson.decode, fields[at + 1])
        local time = read and type(event) == 'table' and event.timestamp
        table.insert(events, {fields[at], type(time) == 'string' and time or ''})
    end
end
table.sort(events, function(one, other)
    return one[2] < other[2]
end)
for at = 1, #events - kept do
    redis.call('HDEL', KEYS[1], events[at][1])
end
"""
)

# KEYS: a hash.  ARGV: a field, the time to live, which reading renews.
FETCH_FIELD = """
local value = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return value
"""

# KEYS: a hash.  ARGV: the time to live.
FETCH_FIELDS = """
local fields = redis.call('HGETALL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return fields
"""

# KEYS: the message's hash.  ARGV: the message, the time to live, its id, from_addr, the prefix of an address's key.
STORE_INBOUND = """
local before = redis.call('HGET', KEYS[1], 'from_addr')
redis.call('HMSET', KEYS[1], 'message', ARGV[1], 'from_addr', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if before and before ~= ARGV[4] and before ~= '' then
    local last = ARGV[5] .. string.sub(before, 2)
    if redis.call('GET', last) == ARGV[3] then
        redis.call('DEL', last)
    end
end
if ARGV[4] ~= '' then
    local last = ARGV[5] .. string.sub(ARGV[4], 2)
    if before ~= ARGV[4] then
        redis.call('SET', last, ARGV[3], 'PX', ARGV[2])
    elseif redis.call('GET', last) == ARGV[3] then
        redis.call('PEXPIRE', last, ARGV[2])
    end
end
"""

_READ = """
local found = redis.call('HMGET', key, 'message', 'from_addr')
redis.call('PEXPIRE', key, ttl)
if found[2] and found[2] ~= '' then
    local last = prefix .. string.sub(found[2], 2)
    if redis.call('GET', last) == id then
        redis.call('PEXPIRE', last, ttl)
    end
end
"""

# KEYS: the message's hash.  ARGV: the time to live, its id, the prefix of an address's key.
FETCH_INBOUND = f"""
local key, ttl, id, prefix = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
{_READ}
return found[1]
"""

# KEYS: the address's key.  ARGV: the time to live, the prefix of a message's key, from_addr, the prefix of an address's
# key.
FETCH_LAST_INBOUND = f"""
local id = redis.call('GET', KEYS[1])
if not id then
    return false
end
local key, ttl, prefix = ARGV[2] .. id, ARGV[1], ARGV[4]
{_READ}
if found[2] ~= ARGV[3] then
    return false
end
return found[1]
"""

# KEYS: a counter.  ARGV: the number to add, the time to live in seconds.
ADD_COUNT = """
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""

# KEYS: a counter.  ARGV: further counters.  Reading renews nothing.
FETCH_COUNTS = """
return redis.call('MGET', KEYS[1], unpack(ARGV))
"""

# KEYS: a hash, which does not expire.  ARGV: a field, its value, the most fields that it can have.
STORE_STATUS = """
if redis.call('HLEN', KEYS[1]) < tonumber(ARGV[3]) or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
"""

# KEYS: a hash.
FETCH_STATUSES = """
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: the beginning of a key.  ARGV: the time to live, the bytes that a value has at most, and then by turns the end
# of a key and the lines to add to its value.  Of a value that is too long the older half goes, up to the end of a line.
APPEND_LINES = """
local most = tonumber(ARGV[2])
for at = 3, #ARGV, 2 do
    local key = KEYS[1] .. ARGV[at]
    if redis.call('APPEND', key, ARGV[at + 1]) > most then
        local kept = redis.call('GETRANGE', key, -math.floor(most / 2), -1)
        local line = string.find(kept, '\\n', 1, true)
        redis.call('SET', key, string.sub(kept, (line or 0) + 1))
    end
    redis.call('PEXPIRE', key, ARGV[1])
end
"""

# KEYS: a quota's slots.  ARGV: its calls, its seconds, the calls that are wanted, the number of slots, the margin: see
# state/quota_slots.py.  By the server's clock, which is the same for all.
TAKE_CALLS = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local seconds, width = tonumber(ARGV[2]), ARGV[2] / ARGV[4]
local kept = seconds * (1 + ARGV[5]) + width
local free, first = tonumber(ARGV[1]), now + kept
local slots = redis.call('HGETALL', KEYS[1])
for at = 1, #slots, 2 do
    local over = (slots[at] + 1) * width + seconds
    if over <= now or over > now + kept + width then
        redis.call('HDEL', KEYS[1], slots[at])
    else
        free = free - slots[at + 1]
        first = math.min(first, over)
    end
end
local taken = math.min(tonumber(ARGV[3]), free)
if taken <= 0 then
    return {0, string.format('%.6f', first - now)}
end
redis.call('HINCRBY', KEYS[1], string.format('%.0f', math.floor((now + seconds * ARGV[5]) / width)), taken)
redis.call('PEXPIRE', KEYS[1], math.ceil(kept * 1000))
return {taken, '0'}
"""

_FIND_CLAIM = """
local function another(found, owner)
    local read, claim = pcall(cjson.decode, found or '')
    return read and type(claim) == 'table' and claim[1] ~= owner and claim
end
"""

# KEYS: a claim.  ARGV: its owner, the claim as JSON, the time to live, the owner whose result is awaited.  Returns the
# claim that is in front.
CLAIM = (
    _FIND_CLAIM
    + """
local found = redis.call('GET', KEYS[1])
local claim = another(found, ARGV[1])
if claim and (not claim[4] or claim[1] == ARGV[4]) then
    return found
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""
)

# KEYS: the beginning of a key.  ARGV: the time to live, and then by turns the end of a key, an owner and a claim.
UPDATE_CLAIMS = (
    _FIND_CLAIM
    + """
for at = 2, #ARGV, 3 do
    local key = KEYS[1] .. ARGV[at]
    if not another(redis.call('GET', key), ARGV[at + 1]) then
        redis.call('SET', key, ARGV[at + 2], 'PX', ARGV[1])
    end
end
"""
)

# KEYS: a claim.  ARGV: its owner.
REMOVE_CLAIM = (
    _FIND_CLAIM
    + """
if not another(redis.call('GET', KEYS[1]), ARGV[1]) then
    redis.call('DEL', KEYS[1])
end
"""
)
