-- What each counter holds now.
local asked, any_held = {}, false
for i = 1, next_number() do
    asked[i] = { c = next_counter() }
    any_held = any_held or asked[i].c.held > 0
end
if any_held then expire() end
return balances(asked)
