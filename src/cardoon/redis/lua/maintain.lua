-- needs: work turns waits deleting
-- flags: allow-oom
-- Takes back what silent workers held, wakes strays, forgets broadcasts, subscriptions and queues that are
-- over: some of each at a time. Returns how many were taken back, whether there is more to do, and the time.
-- After the time that it is given it does nothing: a request that a link has held up for as long as a lease
-- must not take back what would be renewed by those that were held up behind it.
local good_until = tonumber(take() or '')
if good_until and monotonic > good_until then return {0, 0, exact(monotonic)} end

local MOST_TAKEN_BACK, MOST_LOOKS, MOST_OVER, MOST_DELETED = 200, 2000, 100, 500
local FIRST_PAUSE, LATER_PAUSE, LOOK_AGAIN = 1, 10, 50
local taken_back, looks, deleted = 0, 0, 0

local function take_back_one(number, queue, message)
  local due = now + (tonumber(message[1] or 0) > 0 and LATER_PAUSE or FIRST_PAUSE)
  local crashes = tonumber(message[1] or 0) + 1
  call('HSET', P .. 'm:' .. number, 'state', 'w', 'crashes', crashes, 'due', due)
  if message[3] then
    call('SREM', P .. 'running:' .. message[3], number)
    touched[message[3]] = true
  end
  line_up(number, queue, tonumber(message[2]), due, message[3])
  taken_back = taken_back + 1
end

local function take_back(queue)
  local leased = P .. 'leased:' .. queue
  local late = call('ZRANGEBYSCORE', leased, '-inf', monotonic, 'LIMIT', 0, MOST_TAKEN_BACK - taken_back)
  for _, number in ipairs(late) do
    call('ZREM', leased, number)
    local message = call('HMGET', P .. 'm:' .. number, 'crashes', 'priority', 'limit')
    -- One that somebody has deleted is not made again.
    if message[2] then take_back_one(number, queue, message) end
  end
end

local function is_nowhere(id)
  return call('EXISTS', P .. 'outcome:' .. id) == 0
    and call('HEXISTS', P .. 'ids', id) == 0
    and call('EXISTS', P .. 'kept_of:' .. id) == 0
end

-- Whether the look at a message came to its end; else it goes on there the next time.
local function look_at(number, queue)
  local m = P .. 'm:' .. number
  local ids = predecessors_of(number)
  local first = tonumber(call('HGET', m, 'looked') or 0) + 1
  for index = first, #ids do
    looks = looks + 1
    if is_nowhere(ids[index]) then
      local message = call('HMGET', m, 'queue', 'priority', 'limit')
      call('HDEL', m, 'looked')
      wake(number, message, now)
      return true
    end
    if looks >= MOST_LOOKS then
      call('HSET', m, 'looked', index)
      return false
    end
  end
  call('HDEL', m, 'looked')
  call('ZADD', P .. 'dormant:' .. queue, now + LOOK_AGAIN, number)
  return true
end

local function wake_strays(queue)
  local dormant = P .. 'dormant:' .. queue
  while looks < MOST_LOOKS do
    local number = call('ZRANGEBYSCORE', dormant, '-inf', now, 'LIMIT', 0, 1)[1]
    if not number then return end
    looks = looks + 1
    if not look_at(number, queue) then return end
  end
end

for _, queue in ipairs(call('SMEMBERS', P .. 'used')) do
  if taken_back < MOST_TAKEN_BACK then take_back(queue) end
  if looks < MOST_LOOKS then wake_strays(queue) end
  if is_unused(queue) then call('SREM', P .. 'used', queue) end
end
for _, queue in ipairs(call('ZRANGEBYSCORE', P .. 'subscriptions', '-inf', monotonic, 'LIMIT', 0, MOST_OVER)) do
  if deleted < MOST_DELETED then deleted = deleted + tidy_up(queue, MOST_DELETED - deleted) end
end
for _, number in ipairs(call('ZRANGE', P .. 'broadcasts', 0, 99)) do
  if call('EXISTS', P .. 'broadcast:' .. number) == 1 then break end
  call('ZREM', P .. 'broadcasts', number)
end
show_heads()
local has_more = taken_back >= MOST_TAKEN_BACK or looks >= MOST_LOOKS or deleted >= MOST_DELETED
return {taken_back, has_more and 1 or 0, exact(monotonic)}
