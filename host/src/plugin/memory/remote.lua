-- One operation on a plugin's memory. KEYS: a hash of its values, their deadlines by key, the bytes that it takes.
-- ARGV: the time, the operation, the bytes that it may take, what an entry costs besides key and value, the key, and what
-- the operation needs. Answers {how it went, value, entries, bytes, entries found expired}.
local DONE, TOO_LARGE, NOT_A_NUMBER, OTHER_VALUE = 0, 1, 2, 3
local COLLECTED_MAX = 32
local values, deadlines, total = KEYS[1], KEYS[2], KEYS[3]
local now, operation, key = clock(ARGV[1]), ARGV[2], ARGV[5]
local bytes_max, entry_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local expired = 0
local stored = redis.call('GET', total)
local bytes = tonumber(stored or '0')
-- The server may have been told to drop what it has no room for.
if redis.call('EXISTS', values) == 0 then bytes = 0 end

local function remove(name)
  if redis.call('HEXISTS', values, name) == 1 then
    bytes = bytes - #name - redis.call('HSTRLEN', values, name) - entry_bytes
    redis.call('HDEL', values, name)
  end
  redis.call('ZREM', deadlines, name)
end

local function dead(count)
  return redis.call('ZRANGEBYSCORE', deadlines, '-inf', now, 'LIMIT', 0, count)
end

local function collect()
  for _, name in ipairs(dead(COLLECTED_MAX)) do
    remove(name)
    expired = expired + 1
  end
end

local function live()
  local deadline = redis.call('ZSCORE', deadlines, key)
  if deadline and tonumber(deadline) <= now then return false end
  return redis.call('HGET', values, key)
end

-- Makes sure that so many more bytes fit, at the cost of what has expired, but for the key that is being written.
local function make_room(growth)
  while bytes + growth > bytes_max do
    local found
    for _, name in ipairs(dead(2)) do
      if name ~= key then found = name; break end
    end
    if not found then return false end
    remove(found)
    expired = expired + 1
  end
  return true
end

-- life: milliseconds, -1 for ever, or nil to keep the one there is.
local function put(value, life)
  local before = 0
  if redis.call('HEXISTS', values, key) == 1 then
    before = #key + redis.call('HSTRLEN', values, key) + entry_bytes
  end
  local after = #key + #value + entry_bytes
  if after > before and not make_room(after - before) then return TOO_LARGE end
  redis.call('HSET', values, key, value)
  bytes = bytes + after - before
  if life and life < 0 then
    redis.call('ZREM', deadlines, key)
  elseif life then
    redis.call('ZADD', deadlines, now + life, key)
  end
  return DONE
end

-- The decimal number that a text is, as the server's own arithmetic wants it.
local function number(text)
  local sign, digits = string.match(text, '^([+-]?)0*(%d+)$')
  if not digits then return nil end
  if sign == '-' and digits ~= '0' then return '-' .. digits end
  return digits
end

-- The sum of two numbers of 64 bits, or the nearest that there is. Lua's own numbers would lose digits.
local function sum(left, delta)
  local was = redis.call('HGET', values, key)
  redis.call('HSET', values, key, left)
  local done = redis.pcall('HINCRBY', values, key, delta)
  local result = redis.call('HGET', values, key)
  if type(done) == 'table' and done.err then
    if not string.find(done.err, 'overflow') then
      result = nil
    elseif string.sub(delta, 1, 1) == '-' then
      result = '-9223372036854775808'
    else
      result = '9223372036854775807'
    end
  end
  if was then redis.call('HSET', values, key, was) else redis.call('HDEL', values, key) end
  return result
end

local state, value = DONE, false
collect()
if operation == 'get' then
  value = live()
elseif operation == 'set' then
  state = put(ARGV[6], tonumber(ARGV[7]))
elseif operation == 'delete' then
  remove(key)
elseif operation == 'add' then
  local before = live()
  local left = before and number(before) or not before and '0' or nil
  value = left and sum(left, ARGV[6])
  if value then
    state = put(value, not before and tonumber(ARGV[7]) or nil)
  else
    state, value = NOT_A_NUMBER, false
  end
elseif operation == 'compare-and-set' then
  local before = live()
  local expected = ARGV[7] == '1' and ARGV[8] or false
  if before == expected then
    state = put(ARGV[6], not before and -1 or nil)
  else
    state = OTHER_VALUE
  end
end
local counted = string.format('%.0f', bytes)
if bytes == 0 then
  if stored then redis.call('DEL', total) end
elseif counted ~= stored then
  redis.call('SET', total, counted)
end
return {state, value, redis.call('HLEN', values), bytes, expired}
