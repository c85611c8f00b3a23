-- Notes until when an upstream is down, and tells the gateways that listen. KEYS: the upstreams by the end of their time.
-- ARGV: the time, the channel, who tells, for how many milliseconds, the upstream, how many upstreams there may be.
local now = clock(ARGV[1])
local ends = now + tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local known = redis.call('ZSCORE', KEYS[1], ARGV[5])
if not known or tonumber(known) < ends then redis.call('ZADD', KEYS[1], ends, ARGV[5]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[6]))
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
expire(KEYS[1], tonumber(last[2]) - now)
return redis.call('PUBLISH', ARGV[2], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
