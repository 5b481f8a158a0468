-- flags: no-writes
-- What lies in each of these queues, but for what takes turns: that is told by `lines`.
local MOST_LOOKS = 1000

-- When the first of those was due whose place tells it: one for each priority is the oldest of its own.
-- Those before it that are elsewhere are passed, but no more than some.
local function first_by_place(queue)
  local earliest
  for priority = 0, 9 do
    local start, stop, looks = place(priority, 0), '(' .. exact(place(priority - 1, 0)), 0
    while looks < MOST_LOOKS do
      local some = call('ZRANGEBYSCORE', P .. 'ready:' .. queue, start, stop, 'LIMIT', looks, 50)
      if #some == 0 then break end
      for _, number in ipairs(some) do
        looks = looks + 1
        local is_odd = call('ZSCORE', P .. 'since:' .. queue, number)
        if not is_odd and call('SISMEMBER', P .. 'shown:' .. queue, number) == 0 then
          local due = tonumber(call('HGET', P .. 'm:' .. number, 'due'))
          if not earliest or due < earliest then earliest = due end
          looks = MOST_LOOKS
          break
        end
      end
    end
  end
  return earliest
end

local found = {}
for _ = taken + 1, #ARGV do
  local queue = take()
  local sched = P .. 'sched:' .. queue
  local due = call('ZCOUNT', sched, '-inf', now)
  local ready = call('ZCARD', P .. 'ready:' .. queue) - call('SCARD', P .. 'shown:' .. queue) + due
  local oldest = ready > due and first_by_place(queue) or math.huge
  for _, kind in ipairs({'since:', 'sched:'}) do
    local first = call('ZRANGE', P .. kind .. queue, 0, 0, 'WITHSCORES')[2]
    if first then oldest = math.min(oldest, tonumber(first)) end
  end
  found[#found + 1] = {
    queue, ready, call('ZCARD', sched) - due, call('ZCARD', P .. 'dormant:' .. queue),
    call('ZCARD', P .. 'leased:' .. queue), oldest <= now and exact(oldest) or '',
    call('EXISTS', P .. 'keys_in:' .. queue),
  }
end
return {exact(now), found}
