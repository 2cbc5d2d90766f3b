-- Forgets one token, or all of a subject's. The event is logged also where nothing was kept.
local token, subject = next_text(), next_text()
if token ~= '' then
    drop_identity(token)
else
    -- '0' is the character after '/'.
    for _, kept in ipairs(redis.call('ZRANGE', KEYS[2], '[' .. subject .. '/', '(' .. subject .. '0', 'BYLEX')) do
        drop_identity(string.sub(kept, #subject + 2))
    end
end
append_next(4)
return 'OK'
