-- Appends an event that an outbox held, once however often it is moved. KEYS[1] remembers for a week that it was, the
-- others are the log's.
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', 7 * 24 * 3600 * 1000) then append_next(2) end
return 'OK'
