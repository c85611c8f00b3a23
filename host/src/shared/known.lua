-- The upstreams that are down, each with the milliseconds that are left. KEYS: as for telling. ARGV: the time.
local now = clock(ARGV[1])
local known = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES')
for index = 2, #known, 2 do known[index] = string.format('%.0f', tonumber(known[index]) - now) end
return known
