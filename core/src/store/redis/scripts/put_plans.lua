-- Replaces the plans, KEYS[1], and appends to the log.
local version = redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HSET', KEYS[1], 'document', next_text())
append_next(2)
return version
