-- Counts claims, all or none. KEYS: the server's life, then a hash of each meter, slot -> count. ARGV: the time, then for each claim its amount,
-- its bound, the length of a slot, and how many slots before the current one count.
-- Answers {0, time, life, left, resets, left, resets, ...} or {index of the refused claim, time, life, left, resets, wait}.
local now, alive = clock(ARGV[1]), life(KEYS[1])
local meters, counted = {}, {}
local refused, wait_max

local function leaves(meter, slot) return slot_start(slot + meter.depth + 1, meter.length) - now end

for index, key in ipairs({unpack(KEYS, 2)}) do
  local at = 2 + (index - 1) * 4
  local meter = {
    key = key, amount = ARGV[at], bound = tonumber(ARGV[at + 1]),
    length = tonumber(ARGV[at + 2]), depth = tonumber(ARGV[at + 3]),
    used = 0, slots = {}, dead = {},
  }
  meter.current = slot_of(now, meter.length)
  local fields = redis.call('HGETALL', key)
  for field = 1, #fields, 2 do
    local slot, count = tonumber(fields[field]), tonumber(fields[field + 1])
    if slot < meter.current - meter.depth then
      meter.dead[#meter.dead + 1] = fields[field]
    else
      meter.used = meter.used + count
      meter.slots[#meter.slots + 1] = {slot, count}
      if not meter.newest or slot > meter.newest then meter.newest = slot end
    end
  end
  local wanted = tonumber(meter.amount)
  local room = math.max(wanted, 1)
  if meter.used + (counted[key] or 0) + room > meter.bound then
    -- What can never fit waits until nothing that is counted now would be left.
    local wait, freed = leaves(meter, meter.current), 0
    table.sort(meter.slots, function(one, other) return one[1] < other[1] end)
    for _, slot in ipairs(meter.slots) do
      freed = freed + slot[2]
      if meter.used - freed + room <= meter.bound then
        wait = leaves(meter, slot[1])
        break
      end
    end
    if not wait_max or wait > wait_max then refused, wait_max = index, wait end
  end
  counted[key] = (counted[key] or 0) + wanted
  meters[index] = meter
end

if refused then
  local meter = meters[refused]
  local resets = meter.newest and leaves(meter, meter.newest) or 0
  return {refused, now, alive, math.max(meter.bound - meter.used, 0), resets, wait_max}
end

local answer = {0, now, alive}
for _, meter in ipairs(meters) do
  if #meter.dead > 0 then redis.call('HDEL', meter.key, unpack(meter.dead)) end
  if tonumber(meter.amount) > 0 then
    redis.call('HINCRBY', meter.key, meter.current, meter.amount)
    expire(meter.key, leaves(meter, meter.current))
  end
  if counted[meter.key] > 0 then meter.newest = math.max(meter.newest or meter.current, meter.current) end
  answer[#answer + 1] = math.max(meter.bound - meter.used - counted[meter.key], 0)
  answer[#answer + 1] = meter.newest and leaves(meter, meter.newest) or 0
end
return answer
