-- The version of the layout under this prefix, noted where there is none.
redis.call('SET', KEYS[1], next_text(), 'NX')
return redis.call('GET', KEYS[1])
