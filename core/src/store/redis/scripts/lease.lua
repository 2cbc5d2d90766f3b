-- Leases a block of units, and settles another before it. KEYS[9] is where the account of the lease is found by
-- others, as for a hold.
local before = next_text()
expire()
local settled = before ~= '' and settle(before, next_used()) or {}

local id, points, payer, least = next_text(), next_text() == '1', next_text(), next_number()
local expires, kept = moved_in(next_number()), moved_in(next_number())
local keys = next_text()
local earlier = recall_hold(id)
if earlier then return { settled, earlier.amount, earlier.balances } end

-- The arithmetic of lease.rs: of each counter at most half an even share of what is left.
local charges = next_charges()
local amount
for _, charge in ipairs(charges) do
    local share = math.floor(room(charge.c, charge.limit) / (2 * (charge.c.leases + 1)))
    amount = math.min(amount or charge.amount, share, charge.amount)
end
if not amount or amount < math.max(least, 1) then return { settled, 0, balances(charges) } end
local parts = {}
for i, charge in ipairs(charges) do
    local c = charge.c
    c.held, c.leased, c.leases = c.held + amount, c.leased + amount, c.leases + 1
    write(c)
    parts[i] = {
        short = c.is_short, field = c.field, metric = next_text(),
        amount = amount, limit = charge.limit and digits(charge.limit) or '',
    }
end
local after = balances(charges)
open(id, 'l', parts, {
    made = now_ms(), made_told = told_ms, expires = expires, kept = kept, keys = keys, balances = after, amount = amount,
})
if points then redis.call('SET', KEYS[9], payer, 'PX', digits(math.max(kept - now_ms(), 1))) end
return { settled, amount, after }
