-- Changes counters whatever their limits, and tells of it: in the log where that is on this server, and otherwise in
-- the account's outbox, from where it is moved there.
local turn = next_turn()
local once = not turn and next_once()
local keys, in_log = next_text(), next_text() == '1'
-- After the account's keys come the log's or the outbox, and last the idempotency key's, or where the asker's turns
-- are.
local step = KEYS[#KEYS]
local made_before = turn and had_turn(step, turn)
expire()
if once then
    local earlier = recall(step, once.arguments)
    if earlier then return earlier end
end
local after, changed = {}, {}
for _ = 1, next_number() do
    local c, how, amount, limit = next_counter(), next_text(), next_number(), next_limit()
    local before = written(c)
    if made_before then
        -- Its answer was lost: it is told what there is now.
    elseif how == 'refund' then
        -- What is beyond the limit goes first.
        local over = math.min(amount, c.overage)
        c.overage = c.overage - over
        c.used = math.max(c.used - (amount - over), 0)
    elseif how == 'grant' then
        c.bonus = math.min(c.bonus + amount, UNITS_MAX)
    elseif how == 'record' then
        record(c, amount, limit)
    else
        c.used, c.overage = 0, 0
    end
    put_balance(after, c)
    if written(c) ~= before then changed[#changed + 1] = c end
end
for _, c in ipairs(changed) do write(c) end
if once then
    once.keys, once.balances = keys, after
    remember(step, once)
elseif not made_before then
    take_turn(step, turn, { 1, after, {} })
end
if #changed > 0 then
    if in_log then
        append_next(9)
    else
        redis.call('RPUSH', KEYS[9], next_text())
    end
end
return { 1, after, {} }
