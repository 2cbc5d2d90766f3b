-- In front of everything else that charging needs: most charges are of counters that are there, hold nothing but what
-- was used, and have no idempotency key. For those it pays not to set up the rest, which takes several times as long.
-- KEYS[9] is where their asker's turns are.
-- The arithmetic is that of account.lua; what is not plain is left to charge.lua, as if nothing had been looked at.
local function charge_plainly()
    -- After the turn, which is that of a first attempt, come the charges. Whether they are sums makes no difference here.
    if ARGV[3] ~= 'turn' or ARGV[7] == '1' then return nil end
    local n, answer = tonumber(ARGV[10]), { 4 }
    local hashes, fields = {}, {}
    for i = 1, n do
        local first = 5 * i + 6
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
        if reached > told then return nil end
        hashes[i], fields[i] = hash, field
        answer[2 * i], answer[2 * i + 1] = used, told
    end
    local last = redis.call('HGET', KEYS[9], ARGV[4])
    if last and tonumber(string.match(last, '^%d+')) >= tonumber(ARGV[5]) then return nil end
    redis.call('HSET', KEYS[9], ARGV[4], ARGV[5] .. ' ' .. ARGV[6] .. ' 1')
    redis.call('PEXPIRE', KEYS[9], ARGV[8])
    for i = 1, n do
        local text = string.format('%.0f', answer[2 * i])
        if answer[2 * i + 1] > 0 then text = text .. ' ' .. answer[2 * i + 1] end
        redis.call('HSET', hashes[i], fields[i], text)
    end
    return answer
end
local plainly = charge_plainly()
if plainly then return plainly end

