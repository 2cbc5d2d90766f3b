-- Decides a shared rate: the arithmetic of `pace_all`. KEYS[1] holds when its windows owed what, as numbers in a row,
-- and goes by itself once they owe nothing. The first number that is returned says whether the cost was taken.
local count = next_number()
if count == 0 then
    redis.call('DEL', KEYS[1])
    return { 1 }
end
local now = now_ms()
local known = redis.call('GET', KEYS[1])
local owed, at_ms = {}, now
if known then
    for number in string.gmatch(known, '%d+') do owed[#owed + 1] = tonumber(number) end
    at_ms = table.remove(owed, 1)
end
-- A clock that goes back gives nothing back.
local elapsed = math.max(now - at_ms, 0) * 1000000
at_ms = math.max(now, at_ms)
local before, after, longest, fits = {}, {}, 0, true
for i = 1, count do
    local cost, full = next_number(), next_number()
    local debt = math.min(math.max((owed[i] or 0) - elapsed, 0), full)
    before[i], after[i] = digits(debt), digits(debt + cost)
    longest = math.max(longest, debt + cost)
    fits = fits and debt + cost <= full
end
if not fits then return { 0, unpack(before) } end
if longest > 0 then
    redis.call('SET', KEYS[1], digits(at_ms) .. ' ' .. table.concat(after, ' '),
        'PX', digits(math.ceil(longest / 1000000) + 1000))
end
return { 1, unpack(after) }
