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

-- The turn of a step without an idempotency key, if it comes next in the arguments: on which seat, which number there,
-- its own mark, whether it was sent before, and for how long it is remembered, in milliseconds.
local function next_turn()
    if ARGV[at + 1] ~= 'turn' then return nil end
    at = at + 6
    return {
        seat = ARGV[at - 4], number = ARGV[at - 3], mark = ARGV[at - 2], is_again = ARGV[at - 1] == '1', kept = ARGV[at],
    }
end

-- What was decided of a step that comes again because its answer was lost: its outcome and the thresholds that it has
-- reached. Nothing, of one whose turn it is. An error, where the turn was another's: of a step that is not waited for
-- any more, or of one whose asker's name others have too.
local function had_turn(key, turn)
    local last = redis.call('HGET', key, turn.seat)
    local number, mark, outcome, crossed = string.match(last or '', '^(%d+) (%d+) (%d) ?(.*)$')
    if not number or tonumber(number) < tonumber(turn.number) then return nil end
    if number ~= turn.number or mark ~= turn.mark then error(redis.error_reply('TAKEN this turn is taken')) end
    local reached = {}
    for percent in string.gmatch(crossed, '%d+') do reached[#reached + 1] = tonumber(percent) end
    return tonumber(outcome), reached
end

-- Notes what was decided. A refusal only where the first attempt may yet come, and must not be granted then.
local function take_turn(key, turn, done)
    if done[1] == 0 and not turn.is_again then return end
    local crossed = table.concat(done[1] == 1 and done[3] or {}, ' ')
    redis.call('HSET', key, turn.seat, turn.number .. ' ' .. turn.mark .. ' ' .. done[1] .. ' ' .. crossed)
    redis.call('PEXPIRE', key, turn.kept)
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
