-- Charges counters, all or none; sums only where they fit and reach no threshold. KEYS[9] is the idempotency key's, or
-- what a charge without one is known by.
local moment = next_moment()
local are_sums = next_text() == '1'
local once = not moment and next_once()
local keys = once and next_text()
local charges, any_held = next_charges()
-- Only what is held can have expired: most charges need no look at the time.
if any_held or once then expire() end
if once then
    local earlier = recall(KEYS[9], once.arguments)
    if earlier then return earlier end
elseif redis.call('EXISTS', KEYS[9]) == 1 then
    return { 1, balances(charges), {} }
end
local done = add(charges, 'used')
if are_sums and (done[1] == 0 or reached_any(done[3])) then return { 0, {} } end
if done[1] == 1 then
    for _, charge in ipairs(charges) do write(charge.c) end
    if once then
        once.keys, once.balances = keys, done[2]
        remember(KEYS[9], once)
    else
        redis.call('SET', KEYS[9], '1', 'PX', moment)
    end
end
return done
