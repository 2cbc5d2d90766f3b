-- What the account's outbox holds, or, with entries given, what it holds without them.
for _ = 1, next_number() do redis.call('LREM', KEYS[1], 1, next_text()) end
return redis.call('LRANGE', KEYS[1], 0, 99)
