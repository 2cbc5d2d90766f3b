-- In front of scripts that append to the log, which is in one slot. From KEYS[first] on: the last place given out, the
-- events by place, the places of changes, the places of what is no change.
--
-- Indexes are sorted sets of places: one for each name, and for each subject one of changes and one of the rest.
-- Changes are kept for ever; of the rest, an index that is added to loses what the log has forgotten.

-- How long events are kept that are not changes: 90 days.
local KEPT_MS = 90 * 24 * 3600 * 1000

local function append(first, event, is_change, by_name, by_subject)
    local place = redis.call('INCR', KEYS[first])
    redis.call('HSET', KEYS[first + 1], place, digits(now_ms()) .. ' ' .. event)
    redis.call('ZADD', KEYS[first + (is_change and 2 or 3)], place, place)
    local oldest = redis.call('ZRANGE', KEYS[first + 3], 0, 0)[1]
    for _, index in ipairs({ by_name, by_subject }) do
        if index > 0 then
            redis.call('ZADD', KEYS[index], place, place)
            if not is_change then redis.call('ZREMRANGEBYSCORE', KEYS[index], '-inf', '(' .. oldest) end
        end
    end
    if not is_change and by_subject > 0 then
        redis.call('PEXPIRE', KEYS[by_subject], digits(KEPT_MS + 24 * 3600 * 1000))
    end
    return place
end

-- Drops up to so many of the oldest events that are no changes and too old.
local function forget_events(first, most)
    local before = now_ms() - KEPT_MS
    for _, place in ipairs(redis.call('ZRANGE', KEYS[first + 3], 0, most - 1)) do
        local event = redis.call('HGET', KEYS[first + 1], place)
        if not event or tonumber(string.match(event, '^%-?%d+')) < before then
            redis.call('HDEL', KEYS[first + 1], place)
            redis.call('ZREM', KEYS[first + 3], place)
        end
    end
end

-- The event that comes next in the arguments is appended; after it, the numbers of its indexes' keys, 0 for none.
local function append_next(first)
    local event, is_change = next_text(), next_text() == '1'
    return append(first, event, is_change, next_number(), next_number())
end
