-- Keeps who a token stands for. Not where tokens were forgotten after the change that was followed, which KEYS[4]
-- knows.
local token, subject, identity, till, followed = next_text(), next_text(), next_text(), moved_in(next_number()), next_text()
if redis.call('ZCOUNT', KEYS[4], '(' .. followed, '+inf') > 0 then return 'OK' end
drop_identity(token)
redis.call('HSET', KEYS[1], token, cmsgpack.pack({ subject = subject, identity = identity, till = till }))
redis.call('ZADD', KEYS[2], 0, subject .. '/' .. token)
redis.call('ZADD', KEYS[3], digits(till), token)
for _, old in ipairs(redis.call('ZRANGE', KEYS[3], '-inf', digits(now_ms()), 'BYSCORE', 'LIMIT', 0, 4)) do
    drop_identity(old)
end
return 'OK'
