-- What every script begins with. KEYS[1] is `{prefix}:last`, the last number given away; every other
-- key has the same prefix, and so lies in the same slot. KEYS[2] is never there. ARGV[1] and ARGV[2] are
-- the time, as two clocks tell it, or empty for the server's. The rest is read one by one with `take`.
--
-- Times are seconds in doubles. Commands are given them whole; in answers and within text they are written
-- with `exact`, since Lua itself would round them.

local P = string.sub(KEYS[1], 1, -5)
local call = redis.call
local now, monotonic
if ARGV[1] == '' then
  local told = call('TIME')
  now = told[1] + told[2] / 1000000
  monotonic = now
else
  now, monotonic = tonumber(ARGV[1]), tonumber(ARGV[2])
end

local taken = 2
local function take()
  taken = taken + 1
  return ARGV[taken]
end

local function exact(seconds)
  return string.format('%.17g', seconds)
end

-- Expiry that only saves room is this much later than it might be; what counts is told with the value.
local SLACK_MS = 60000
local function milliseconds(seconds)
  return string.format('%.0f', math.ceil(math.max(0, seconds) * 1000) + SLACK_MS)
end

-- Runs a command with many arguments, in pieces that fit on Lua's stack. One such command costs a
-- fraction of many small ones, in the append-only file above all.
local function run_many(command, key, arguments)
  for first = 1, #arguments, 4000 do
    local last = math.min(first + 3999, #arguments)
    if key then
      call(command, key, unpack(arguments, first, last))
    else
      call(command, unpack(arguments, first, last))
    end
  end
end

local function append(lists, name, one, other)
  local list = lists[name]
  if not list then
    list = {}
    lists[name] = list
  end
  list[#list + 1] = one
  if other then list[#list + 1] = other end
  return list
end

-- The most urgent first, and of those the oldest. Exact in a double up to 2^48 messages.
local function place(priority, number)
  return (9 - priority) * 281474976710656 + number
end

-- One token in a queue's bell wakes one worker, who passes it on if there is more.
local rung = {}
local function ring(queue)
  if not rung[queue] then
    rung[queue] = true
    local bell = P .. 'bell:' .. queue
    if call('EXISTS', bell) == 0 then call('LPUSH', bell, '') end
  end
end

-- Puts a message where claims meet it as soon as it is due. `since` has those whose place does not tell how long
-- they have been due.
local function queue_up(number, queue, priority, due)
  if due > now then
    call('ZADD', P .. 'sched:' .. queue, due, number)
  else
    call('ZADD', P .. 'ready:' .. queue, place(priority, number), number)
    call('ZADD', P .. 'since:' .. queue, due, number)
  end
  ring(queue)
end
