-- Charges counters, all or none. KEYS[9], where there is one, is the idempotency key's.
local once = next_once()
local keys = once and next_text()
local charges, any_held = next_charges()
-- Only what is held can have expired: most charges need no look at the time.
if any_held or once then expire() end
if once then
    local earlier = recall(KEYS[9], once.arguments)
    if earlier then return earlier end
end
local done = add(charges, 'used')
if done[1] == 1 then
    for _, charge in ipairs(charges) do write(charge.c) end
    if once then
        once.keys, once.balances = keys, done[2]
        remember(KEYS[9], once)
    end
end
return done
