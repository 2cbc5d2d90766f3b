-- Resolves a hold, once.
local id = next_text()
expire()
return settle(id, next_used())
