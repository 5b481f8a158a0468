-- What waits in a queue is deleted here, some at a time.

local function delete_all(queue, numbers)
  for _, number in ipairs(numbers) do
    leave_line(number, queue, call('HGET', P .. 'm:' .. number, 'limit'))
    call('ZREM', P .. 'dormant:' .. queue, number)
    delete(number)
  end
  return #numbers
end

-- Returns how many of at most `most`.
local function delete_waiting(queue, most)
  local deleted = 0
  for _, kind in ipairs({'dormant:', 'sched:', 'ready:'}) do
    if deleted < most then
      deleted = deleted + delete_all(queue, call('ZRANGE', P .. kind .. queue, 0, most - deleted - 1))
    end
  end
  while deleted < most do
    local key = call('SRANDMEMBER', P .. 'keys_in:' .. queue)
    if not key then break end
    deleted = deleted + delete_all(queue, call('ZRANGE', line_of('dues', queue, key), 0, most - deleted - 1))
  end
  return deleted
end

local function is_unused(queue)
  for _, kind in ipairs({'ready:', 'sched:', 'keys_in:', 'leased:', 'dormant:'}) do
    if call('EXISTS', P .. kind .. queue) == 1 then return false end
  end
  return true
end

-- Deletes copies that wait where a subscription is over, and forgets it with the last one; returns how many.
local function tidy_up(queue, most)
  local until_ = call('ZSCORE', P .. 'subscriptions', queue)
  if not until_ or tonumber(until_) > monotonic then return 0 end
  local deleted = delete_waiting(queue, most)
  if is_unused(queue) then
    local broadcast = call('HGET', P .. 'subscribed', queue)
    if broadcast then call('ZREM', P .. 'subscribers:' .. broadcast, queue) end
    call('HDEL', P .. 'subscribed', queue)
    call('ZREM', P .. 'subscriptions', queue)
    call('DEL', P .. 'bell:' .. queue, P .. 'rest:' .. queue)
  end
  return deleted
end
