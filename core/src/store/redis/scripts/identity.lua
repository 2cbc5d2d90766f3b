-- Who a token stands for, if that is still kept.
local text = redis.call('HGET', KEYS[1], next_text())
if not text then return {} end
local kept = cmsgpack.unpack(text)
if kept.till <= now_ms() then return {} end
return { kept.identity, moved_out(kept.till) }
