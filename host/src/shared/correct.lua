-- Corrects what was counted, as far as it still counts. KEYS: the hash of each meter. ARGV: the time, then for each
-- correction when it was counted, the difference, the length of a slot, and how many slots before the current one count.
local now = clock(ARGV[1])
for index, key in ipairs(KEYS) do
  local at = 2 + (index - 1) * 4
  local length, depth = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local slot = slot_of(tonumber(ARGV[at]), length)
  if slot >= slot_of(now, length) - depth then
    local count = redis.call('HINCRBY', key, slot, ARGV[at + 1])
    if count <= 0 then
      redis.call('HDEL', key, slot)
    else
      local left = slot_start(slot + depth + 1, length) - now
      if redis.call('PTTL', key) < left then expire(key, left) end
    end
  end
end
return #KEYS
