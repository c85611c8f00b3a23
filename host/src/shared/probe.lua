-- Does what the gateway will do: reads the clock and writes. KEYS: a key of its own. ARGV: the time, its life.
redis.call('SET', KEYS[1], clock(ARGV[1]), 'PX', ARGV[2])
return 1
