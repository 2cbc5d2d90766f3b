-- In front of everything else that charging needs: most charges are of counters that are there, hold nothing but what
-- was used, and have no idempotency key. For those it pays not to set up the rest, which takes several times as long.
-- KEYS[9] is what they are known by when they come again, because their answer was lost.
-- The arithmetic is that of account.lua; what is not plain is left to charge.lua, as if nothing had been looked at.
local function charge_plainly()
    if ARGV[3] ~= 'moment' then return nil end
    local are_sums, n, answer = ARGV[5] == '1', tonumber(ARGV[6]), { 4 }
    local hashes, fields = {}, {}
    for i = 1, n do
        local first = 5 * i + 2
        local hash, field = KEYS[ARGV[first] == '' and 1 or 2], ARGV[first + 1] .. ARGV[first + 2]
        for earlier = 1, i - 1 do
            if fields[earlier] == field then return nil end
        end
        local text = redis.call('HGET', hash, field)
        if not text then return nil end
        local used, told = string.match(text, '^(%d+) ?(%d*)$')
        if not used then return nil end
        used, told = used + ARGV[first + 3], tonumber(told) or 0
        local limit, reached = tonumber(ARGV[first + 4]), 0
        if used > (limit or 9007199254740991) then return nil end
        if limit then
            if used >= limit then reached = 100 elseif used >= (limit - used) * 4 then reached = 80 end
        end
        local crossed = 0
        if reached > told then
            if are_sums then return nil end
            told, crossed = reached, reached
        end
        hashes[i], fields[i] = hash, field
        answer[3 * i - 1], answer[3 * i], answer[3 * i + 1] = used, told, crossed
    end
    if not redis.call('SET', KEYS[9], '1', 'NX', 'PX', ARGV[4]) then return nil end
    for i = 1, n do
        local text = string.format('%.0f', answer[3 * i - 1])
        if answer[3 * i] > 0 then text = text .. ' ' .. answer[3 * i] end
        redis.call('HSET', hashes[i], fields[i], text)
    end
    return answer
end
local plainly = charge_plainly()
if plainly then return plainly end

