-- Sets units aside, all or none. KEYS[9] is where the account of the hold is found by others; KEYS[10], where there is
-- one, is the idempotency key's. On a cluster the first is in another slot, was written before and is not passed.
local id, points, payer = next_text(), next_text() == '1', next_text()
local expires, kept = moved_in(next_number()), moved_in(next_number())
local once, keys = next_once(), next_text()
local step = once and KEYS[points and 10 or 9]
expire()
if once then
    local earlier = recall(step, once.arguments)
    if earlier then return earlier end
end
if stands(id) then
    local hold = recall_hold(id)
    return { 2, done_at(hold.made, hold.made_told), hold.keys, hold.balances, id }
end
local charges = next_charges()
local done = add(charges, 'held')
if done[1] == 0 then return done end
local parts = {}
for i, charge in ipairs(charges) do
    write(charge.c)
    parts[i] = {
        short = charge.c.is_short, field = charge.c.field, metric = next_text(),
        amount = charge.amount, limit = charge.limit and digits(charge.limit) or '',
    }
end
open(id, 'h', parts, {
    made = now_ms(), made_told = told_ms, expires = expires, kept = kept, keys = keys, balances = done[2],
})
if points then redis.call('SET', KEYS[9], payer, 'PX', digits(math.max(kept - now_ms(), 1))) end
if once then
    once.keys, once.balances, once.hold = keys, done[2], id
    remember(step, once)
end
return done
