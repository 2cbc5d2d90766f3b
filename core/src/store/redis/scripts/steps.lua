-- Steps under idempotency keys, and lists of charges, after holds.lua.

-- What was done under an idempotency key, as an answer; nil if nothing was that still counts. After `expire`.
local function recall(step, arguments)
    local text = redis.call('GET', step)
    if not text then return nil end
    local done = cmsgpack.unpack(text)
    if done.kept <= now_ms() then return nil end
    -- What expired or was released has charged nothing, so there is nothing to do twice.
    if done.hold ~= '' and not stands(done.hold) then return nil end
    if done.arguments ~= arguments then return { 3 } end
    return { 2, done_at(done.at, done.told), done.keys, done.balances, done.hold }
end

-- The server forgets it by itself.
local function remember(step, done)
    local left = math.max(done.kept - now_ms(), 1)
    redis.call('SET', step, cmsgpack.pack(done), 'PX', digits(left))
end

-- For how long a step without an idempotency key is remembered, in milliseconds, if it comes next in the arguments.
local function next_moment()
    if ARGV[at + 1] ~= 'moment' then return nil end
    at = at + 2
    return ARGV[at]
end

-- The idempotency key that comes next in the arguments; nil where there is none.
local function next_once()
    local arguments = next_text()
    if arguments == '' then return nil end
    return { arguments = arguments, kept = moved_in(next_number()), at = now_ms(), told = told_ms, hold = '' }
end

-- The charges that come next in the arguments.
local function next_charges()
    local charges, any_held = {}, false
    for i = 1, next_number() do
        local c = next_counter()
        charges[i] = { c = c, amount = next_number(), limit = next_limit() }
        any_held = any_held or c.held > 0
    end
    return charges, any_held
end

-- What the counters of charges hold, in their order.
local function balances(charges)
    local list = {}
    for _, charge in ipairs(charges) do put_balance(list, charge.c) end
    return list
end

-- Decides charges, all or nothing: 0 refused, 1 granted; the balances; the thresholds that were reached. Nothing is
-- written yet.
local function add(charges, to)
    local before = balances(charges)
    local after, crossed = {}, {}
    for i, charge in ipairs(charges) do
        local c = charge.c
        if charge.amount > room(c, charge.limit) then return { 0, before } end
        c[to] = c[to] + charge.amount
        crossed[i] = telling(c, charge.limit)
        put_balance(after, c)
    end
    return { 1, after, crossed }
end

-- Whether a step that was decided reaches a threshold.
local function reached_any(crossed)
    for _, percent in ipairs(crossed) do
        if percent > 0 then return true end
    end
    return false
end
