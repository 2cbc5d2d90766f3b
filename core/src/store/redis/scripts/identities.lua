-- In front of scripts about identities. KEYS: identities by token, tokens by subject in one ordered set, and until
-- when each is kept.
local function drop_identity(token)
    local text = redis.call('HGET', KEYS[1], token)
    if not text then return end
    redis.call('HDEL', KEYS[1], token)
    redis.call('ZREM', KEYS[2], cmsgpack.unpack(text).subject .. '/' .. token)
    redis.call('ZREM', KEYS[3], token)
end
