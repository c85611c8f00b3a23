-- Corrects what was counted, as far as it still counts. KEYS: the server's life, then the hash of each meter. ARGV: the time,
-- then for each correction when it was counted, in which life, by how much that is wrong, what it should have been, the
-- length of a slot, and how many slots before the current one count.
local now, alive = clock(ARGV[1]), life(KEYS[1])
for index, key in ipairs({unpack(KEYS, 2)}) do
  local at = 2 + (index - 1) * 6
  local length, depth = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local slot = slot_of(tonumber(ARGV[at]), length)
  if slot >= slot_of(now, length) - depth then
    -- What another life has counted, or nobody, is not there to be corrected.
    local change = tonumber(ARGV[at + 1]) == alive and ARGV[at + 2] or ARGV[at + 3]
    local count = redis.call('HINCRBY', key, slot, change)
    if count <= 0 then
      redis.call('HDEL', key, slot)
    else
      local left = slot_start(slot + depth + 1, length) - now
      if redis.call('PTTL', key) < left then expire(key, left) end
    end
  end
end
return #KEYS - 1
