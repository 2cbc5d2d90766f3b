-- Charges counters, all or none; sums only where they fit and reach no threshold. KEYS[9] is the idempotency key's, or
-- where the asker's turns are.
local turn = next_turn()
local are_sums = next_text() == '1'
local once = not turn and next_once()
local keys = once and next_text()
local charges, any_held = next_charges()
-- Only what is held can have expired: most charges need no look at the time.
if any_held or once then expire() end
if once then
    local earlier = recall(KEYS[9], once.arguments)
    if earlier then return earlier end
else
    local outcome, crossed = had_turn(KEYS[9], turn)
    if outcome then return { outcome, balances(charges), crossed } end
end
local done = add(charges, 'used')
if are_sums and done[1] == 1 and reached_any(done[3]) then done = { 0, {} } end
if done[1] == 1 then
    for _, charge in ipairs(charges) do write(charge.c) end
end
if turn then
    take_turn(KEYS[9], turn, done)
elseif done[1] == 1 then
    once.keys, once.balances = keys, done[2]
    remember(KEYS[9], once)
end
return done
