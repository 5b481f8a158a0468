-- needs: work turns waits
-- flags: allow-oom
-- Deletes some of what waits in a queue; returns how many.
local queue, most = take(), tonumber(take())
local deleted = 0

local function purge(numbers)
  for _, number in ipairs(numbers) do
    leave_line(number, queue, call('HGET', P .. 'm:' .. number, 'limit'))
    call('ZREM', P .. 'dormant:' .. queue, number)
    delete(number)
    deleted = deleted + 1
  end
end

for _, kind in ipairs({'dormant:', 'sched:', 'ready:'}) do
  if deleted < most then purge(call('ZRANGE', P .. kind .. queue, 0, most - deleted - 1)) end
end
while deleted < most do
  local key = call('SRANDMEMBER', P .. 'keys_in:' .. queue)
  if not key then break end
  purge(call('ZRANGE', line_of('dues', queue, key), 0, most - deleted - 1))
end
show_heads()
return deleted
