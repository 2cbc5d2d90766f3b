-- In front of every script, but for what `plain_charge.lua` settles: the time. ARGV[1] is what the caller's clock says,
-- ARGV[2] is '1' where the server's own clock decides. Every time that is passed in is then moved to the server's clock,
-- and every one that is handed out is moved back, so that a caller whose clock is wrong neither keeps nor ends anything
-- sooner than others.
--
-- All arguments come one after the other, and are read in that order.

local at = 2
local function next_text()
    at = at + 1
    return ARGV[at]
end
local function next_number()
    return tonumber(next_text())
end

-- Whole numbers as digits: Lua's own way of writing large ones loses some.
local function digits(number)
    return string.format('%.0f', number)
end

local server_time_ms
local function server_ms()
    if not server_time_ms then
        local time = redis.call('TIME')
        server_time_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    end
    return server_time_ms
end

local told_ms = tonumber(ARGV[1])
local function now_ms()
    return ARGV[2] == '1' and server_ms() or told_ms
end
-- From the caller's clock to the one that decides, and back.
local function moved_in(ms)
    return ms + (now_ms() - told_ms)
end
local function moved_out(ms)
    return ms - (now_ms() - told_ms)
end
-- When something was done, which `told` said then by the clock of whoever did it: what was answered once is answered
-- again to the millisecond, unless that clock was wrong.
local function done_at(ms, told)
    local out = moved_out(ms)
    return math.abs(out - told) < 1000 and told or out
end
