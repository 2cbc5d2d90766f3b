-- Gives a subject a subscription, if the one that it has is the one expected. KEYS: the subscriptions, their subjects
-- in order, which plan and state each is in, how many are in each, and the log's.
local subject, to, line = next_text(), next_text(), next_text()
-- '*' expects nothing in particular, and the empty text none at all.
local from = next_text()
local present = redis.call('HGET', KEYS[1], subject)
if from ~= '*' and from ~= (present or '') then return { 0, present } end

local function count(which, by)
    if redis.call('HINCRBY', KEYS[4], which, by) <= 0 then redis.call('HDEL', KEYS[4], which) end
end
local earlier = redis.call('HGET', KEYS[3], subject)
if earlier then count(earlier, -1) end
count(line, 1)
redis.call('HSET', KEYS[3], subject, line)
redis.call('HSET', KEYS[1], subject, to)
redis.call('ZADD', KEYS[2], 0, subject)
append_next(5)
return { 1, to }
