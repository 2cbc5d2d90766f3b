-- In front of every script that works on one account's counters: what the account has, in eight keys of one slot.
--
-- A counter is a field of a hash, by subject, metric, period and start. Those of long periods stay for ever; those of
-- short ones are in a hash of their own, which goes with the two indexes when nobody has made one for long enough.
local COUNTERS, WINDOWS, ORDER, AGES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- Holds that are open, by when they expire, and what each has set aside: enough to end it whoever comes.
local OPEN, PARTS = KEYS[5], KEYS[6]
-- What is remembered of holds, open or not, and until when.
local HOLDS, ENDS = KEYS[7], KEYS[8]

local UNITS_MAX = 9007199254740991
-- How long the short windows of an account are kept that does not come back, by the server's clock: 400 days.
local KEPT_IDLE_MS = 400 * 24 * 3600 * 1000
-- How many things that are too old are dropped for each one that is added, so that none needs a sweep.
local DROPPED_AT_ONCE = 4

-- Most counters have only been charged: those are written as what was used and, from the first threshold on, the last
-- that was told.
local function parse(text)
    local used, told = string.match(text or '0', '^(%d+) ?(%d*)$')
    if used then
        return {
            used = tonumber(used), told = tonumber(told) or 0, held = 0, leased = 0, leases = 0, bonus = 0, overage = 0,
        }
    end
    local n = {}
    for number in string.gmatch(text, '%d+') do n[#n + 1] = tonumber(number) end
    return { used = n[1], told = n[2], held = n[3], leased = n[4], leases = n[5], bonus = n[6], overage = n[7] }
end

local function written(c)
    if c.held + c.leases + c.bonus + c.overage == 0 then
        return c.told == 0 and digits(c.used) or digits(c.used) .. ' ' .. c.told
    end
    return string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f',
        c.used, c.told, c.held, c.leased, c.leases, c.bonus, c.overage)
end

-- The counters of this step, by field, each read once.
local counters = {}

local function find(is_short, field)
    local c = counters[field]
    if not c then
        local text = redis.call('HGET', is_short and WINDOWS or COUNTERS, field)
        c = parse(text)
        c.field, c.is_short, c.is_new, c.text = field, is_short, not text, text
        counters[field] = c
    end
    return c
end

-- The counter that comes next in the arguments: until when its older windows are forgotten, empty for one that is
-- kept for ever; what its windows have in common; its start.
local function next_counter()
    local before, family, start = next_text(), next_text(), next_text()
    local c = find(before ~= '', family .. start)
    c.before, c.family = before, family
    return c
end

local function drop(field)
    redis.call('HDEL', WINDOWS, field)
    redis.call('ZREM', ORDER, field)
    redis.call('ZREM', AGES, field)
end

-- Has the short windows kept for at least so long from now.
local function keep_windows(ms)
    if redis.call('PTTL', WINDOWS) < ms then
        redis.call('PEXPIRE', WINDOWS, digits(ms))
        redis.call('PEXPIRE', ORDER, digits(ms))
        redis.call('PEXPIRE', AGES, digits(ms))
    end
end

-- Notes a short window that was made, and drops what is too old.
--
-- Of the same subject, metric and period, what `Period::kept_for` says, but never the three newest: a clock that is
-- years ahead then makes nobody's present counter an old one. Of subjects that have not come back, some of those that
-- were made longest ago, which the server's clock alone decides.
local function note_window(c)
    local second = math.floor(server_ms() / 1000)
    redis.call('ZADD', ORDER, 0, c.field)
    redis.call('ZADD', AGES, second, c.field)
    keep_windows(KEPT_IDLE_MS + 24 * 3600 * 1000)
    -- '0' is the character after '/', with which a family ends.
    local past = string.sub(c.family, 1, -2) .. '0'
    local third = redis.call('ZRANGE', ORDER, '(' .. past, '[' .. c.family, 'BYLEX', 'REV', 'LIMIT', 2, 1)[1]
    if third then
        for _, field in ipairs(redis.call('ZRANGE', ORDER, '[' .. c.family, '(' .. c.family .. c.before, 'BYLEX')) do
            if field < third then drop(field) end
        end
    end
    local idle = second - KEPT_IDLE_MS / 1000
    local old = redis.call('ZRANGE', AGES, '-inf', '(' .. digits(idle), 'BYSCORE', 'LIMIT', 0, DROPPED_AT_ONCE)
    for _, field in ipairs(old) do
        if parse(redis.call('HGET', WINDOWS, field)).held > 0 then
            redis.call('ZADD', AGES, second, field)
        else
            drop(field)
        end
    end
end

-- Writes a counter if it has changed. One that holds nothing and never has leaves no trace.
local function write(c)
    local text = written(c)
    if text == (c.text or '0') then return end
    redis.call('HSET', c.is_short and WINDOWS or COUNTERS, c.field, text)
    c.text = text
    if c.is_new and c.is_short and c.family then note_window(c) end
    c.is_new = false
end

-- The arithmetic of counter.rs and hold.rs, which explains it ---------------------------------------------------

local function ceiling(c, limit)
    return limit and math.min(limit + c.bonus, UNITS_MAX) or UNITS_MAX
end

local function room(c, limit)
    return math.max(ceiling(c, limit) - (c.used + c.held), 0)
end

-- Notes the highest threshold that is reached, and returns it if it is new; otherwise 0.
local function telling(c, limit)
    if not limit or c.used == 0 then return 0 end
    local most, reached = ceiling(c, limit), 0
    if c.used >= most then
        reached = 100
    elseif c.used >= (most - c.used) * 4 then
        -- Four fifths, without a product that a double does not hold.
        reached = 80
    end
    if reached <= c.told then return 0 end
    c.told = reached
    return reached
end

-- Charges what was consumed whether it fits or not.
local function record(c, amount, limit)
    local fits = math.min(amount, room(c, limit))
    c.used = c.used + fits
    c.overage = math.min(c.overage + (amount - fits), UNITS_MAX)
end

-- Ends what a hold ('h') or a lease ('l') has set aside, whatever becomes of the units.
local function unhold(c, kind, amount)
    c.held = math.max(c.held - amount, 0)
    if kind == 'l' then
        c.leased = math.max(c.leased - amount, 0)
        c.leases = math.max(c.leases - 1, 0)
    end
end

-- An unlimited quota is an empty text.
local function next_limit()
    return tonumber(next_text())
end

local function put_balance(list, c)
    local n = #list
    list[n + 1], list[n + 2], list[n + 3], list[n + 4] = c.used, c.held, c.leased, c.leases
    list[n + 5], list[n + 6], list[n + 7] = c.bonus, c.overage, c.told
end
