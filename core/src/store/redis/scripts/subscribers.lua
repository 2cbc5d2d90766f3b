-- A stretch of the subscribers in the order of their subjects.
local after, size = next_text(), next_text()
local subjects = redis.call('ZRANGE', KEYS[2], after, '+', 'BYLEX', 'LIMIT', 0, size)
if #subjects == 0 then return {} end
local subscriptions, answer = redis.call('HMGET', KEYS[1], unpack(subjects)), {}
for i, subject in ipairs(subjects) do
    answer[2 * i - 1], answer[2 * i] = subject, subscriptions[i] or ''
end
return answer
