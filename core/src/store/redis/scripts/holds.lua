-- Holds and leases of an account, after account.lua.

-- Ends every hold of the account that has expired, on all its counters at once: one that has expired for somebody
-- has for everybody, also for those whose clock is behind. What holds have set aside is given back, what leases have
-- is charged. Each is ended once, so that this costs no more than making them.
local function expire()
    local now = digits(now_ms())
    while true do
        local due = redis.call('ZRANGE', OPEN, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
        if #due == 0 then return end
        for _, id in ipairs(due) do
            local open = cmsgpack.unpack(redis.call('HGET', PARTS, id))
            for _, part in ipairs(open.parts) do
                local c = find(part.short, part.field)
                -- A window that was forgotten stays so.
                if not c.is_new then
                    unhold(c, open.kind, part.amount)
                    if open.kind == 'l' then c.used = math.min(c.used + part.amount, UNITS_MAX) end
                    write(c)
                end
            end
            redis.call('ZREM', OPEN, id)
            redis.call('HDEL', PARTS, id)
        end
    end
end

-- What is remembered of a hold or lease, if anything is still.
local function recall_hold(id)
    local text = redis.call('HGET', HOLDS, id)
    if not text then return nil end
    local hold = cmsgpack.unpack(text)
    return hold.kept > now_ms() and hold or nil
end

-- Whether a hold has charged something, or still may: one that has not is made anew under its name. After `expire`.
local function stands(id)
    local hold = recall_hold(id)
    if not hold then return false end
    if hold.receipt then return hold.charged end
    return redis.call('HEXISTS', PARTS, id) == 1
end

-- Remembers a hold until its time, and drops some whose time is over. What nobody comes back to drop goes by itself.
local function remember_hold(id, hold)
    local over = redis.call('ZRANGE', ENDS, '-inf', digits(now_ms()), 'BYSCORE', 'LIMIT', 0, DROPPED_AT_ONCE)
    for _, old in ipairs(over) do
        redis.call('HDEL', HOLDS, old)
        redis.call('ZREM', ENDS, old)
    end
    redis.call('HSET', HOLDS, id, cmsgpack.pack(hold))
    redis.call('ZADD', ENDS, digits(hold.kept), id)
    local left = math.max(hold.kept - now_ms(), 1)
    if redis.call('PTTL', HOLDS) < left then
        redis.call('PEXPIRE', HOLDS, digits(left))
        redis.call('PEXPIRE', ENDS, digits(left))
    end
end

-- Opens a hold or a lease: these counters with these amounts, which they have set aside already.
local function open(id, kind, parts, hold)
    redis.call('ZADD', OPEN, digits(hold.expires), id)
    redis.call('HSET', PARTS, id, cmsgpack.pack({ kind = kind, parts = parts }))
    remember_hold(id, hold)
    for _, part in ipairs(parts) do
        if part.short then keep_windows(hold.kept - now_ms()) end
    end
end

-- Resolves a hold: 0 it is unknown, 1 settled now, 2 settled before, 3 expired; when; its counters; its receipt.
-- `used` is what was really used, by metric; of a metric that is not in it, as much as was held.
local function settle(id, used)
    local hold = recall_hold(id)
    if not hold then return { 0 } end
    if hold.receipt then return { 2, done_at(hold.at, hold.at_told), hold.keys, hold.receipt } end
    local text = redis.call('HGET', PARTS, id)
    if not text then return { 3, moved_out(hold.expires) } end
    local opened, receipt = cmsgpack.unpack(text), {}
    hold.charged = false
    for _, part in ipairs(opened.parts) do
        local c, limit = find(part.short, part.field), tonumber(part.limit)
        unhold(c, opened.kind, part.amount)
        local used_before, overage_before = c.used, c.overage
        local actual = used[part.metric] or part.amount
        -- What was held has its place already, even under a limit that was lowered since.
        local within = math.min(actual, part.amount)
        c.used = c.used + within
        record(c, actual - within, limit)
        local crossed = telling(c, limit)
        write(c)
        local charged, over = c.used - used_before, c.overage - overage_before
        hold.charged = hold.charged or charged > 0 or over > 0
        receipt[#receipt + 1], receipt[#receipt + 2], receipt[#receipt + 3] = part.amount, charged, over
        put_balance(receipt, c)
        receipt[#receipt + 1] = crossed
    end
    redis.call('ZREM', OPEN, id)
    redis.call('HDEL', PARTS, id)
    hold.at, hold.at_told, hold.receipt = now_ms(), told_ms, receipt
    redis.call('HSET', HOLDS, id, cmsgpack.pack(hold))
    return { 1, told_ms, hold.keys, receipt }
end

local function next_used()
    local used = {}
    for _ = 1, next_number() do
        local metric, amount = next_text(), next_number()
        -- The first of those of one metric counts.
        used[metric] = used[metric] or amount
    end
    return used
end
