-- Reads the log: KEYS[1] has the events, the others are the indexes to look in, merged.
local after, newest_first, limit, pattern = next_text(), next_text() == '1', next_number(), next_text()
local CHUNK = 200

-- Up to `limit` events of one index.
local function read(index, found)
    local from, count = 0, 0
    while count < limit do
        local size = math.min(CHUNK, pattern == '' and limit - count or CHUNK)
        local places
        if newest_first then
            places = redis.call('ZRANGE', index, '+inf', '(' .. after, 'BYSCORE', 'REV', 'LIMIT', from, size)
        else
            places = redis.call('ZRANGE', index, '(' .. after, '+inf', 'BYSCORE', 'LIMIT', from, size)
        end
        if #places == 0 then return end
        from = from + #places
        local events = redis.call('HMGET', KEYS[1], unpack(places))
        for i, place in ipairs(places) do
            local event = events[i]
            -- What was forgotten may still be in an index.
            if event and count < limit and (pattern == '' or string.find(event, pattern, 1, true)) then
                count = count + 1
                found[#found + 1] = { tonumber(place), string.match(event, '^%-?%d+ (.*)$') }
            end
        end
    end
end

local found = {}
for i = 2, #KEYS do read(KEYS[i], found) end
if #KEYS > 2 then
    table.sort(found, function(one, other)
        if newest_first then return one[1] > other[1] end
        return one[1] < other[1]
    end)
end
local answer = {}
for i = 1, math.min(#found, limit) do
    answer[2 * i - 1], answer[2 * i] = found[i][1], found[i][2]
end
return answer
