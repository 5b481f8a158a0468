-- needs: work turns
-- flags: allow-oom
-- Leases what is due, the most urgent of each queue first. Returns when to look again, whether there may be more
-- to take now, what was taken, and which queues rest. A claim whose answer was lost says so when it is made
-- again, and gets what it had taken; what is left of it on the way, and arrives later, takes nothing.
local slot, serial, is_again = take(), take(), take() == '1'
local limit = tonumber(take())
local until_ = exact(monotonic + tonumber(take()))
local max_bytes = tonumber(take())
local queues, resting = {}, {}
for index = taken + 1, #ARGV do queues[#queues + 1] = ARGV[index] end

local function rests(queue)
  if call('SISMEMBER', P .. 'paused', queue) == 1 then return true end
  local broadcast = call('HGET', P .. 'subscribed', queue)
  return broadcast and call('SISMEMBER', P .. 'paused', broadcast) == 1
end

if call('EXISTS', P .. 'paused') == 1 then
  local awake = {}
  for _, queue in ipairs(queues) do
    local list = rests(queue) and resting or awake
    list[#list + 1] = queue
  end
  queues = awake
end

local MOST_PROMOTED, MOST_PASSED, LOOK_AHEAD = 500, 2000, 100

local FIELDS = {'queue', 'id', 'priority', 'crashes', 'retries', 'limit', 'waits', 'attempt', 'state', 'due'}
local NUMBERS = {[3] = 'priority', [4] = 'crashes', [5] = 'retries', [8] = 'attempt', [10] = 'due'}

-- Whoever can write the store can put anything into a message's fields, or another type of key in its place.
-- What makes no sense there is put right here, so that no message stops the claims and the ends of all others.
local function read_waits(number)
  local packed = redis.pcall('GET', P .. 'after:' .. number)
  local is_right, after = pcall(cmsgpack.unpack, packed)
  return is_right and type(after) == 'table' and after or false
end

local function read_fields(number)
  local m = P .. 'm:' .. number
  local message = redis.pcall('HMGET', m, unpack(FIELDS))
  if message.err then return {} end
  for at, name in pairs(NUMBERS) do
    if message[at] and not tonumber(message[at]) then
      message[at] = name == 'due' and exact(now) or '0'
      call('HSET', m, name, message[at])
    end
  end
  return message
end

local deliveries, claimed = {}, {serial}
local room, is_full, passed, has_more = max_bytes, false, 0, false
local leased, turns = {}, {}

local function hand_over(number, message, attempt)
  local frame = redis.pcall('GET', P .. 'f:' .. number) or ''
  if type(frame) ~= 'string' then frame = '' end
  local size = #frame
  if message[7] then size = size + (tonumber(call('HGET', P .. 'm:' .. number, 'carried')) or 0) end
  if size > room and #deliveries > 0 then return false end
  room = room - size
  local after = false
  if message[7] then after = read_waits(number) end
  deliveries[#deliveries + 1] = {
    message[1], message[2], number, frame, attempt, message[4] or 0, message[5] or 0, message[3] or 0, after,
  }
  claimed[#claimed + 1] = number
  claimed[#claimed + 1] = attempt
  return true
end

local function lend(number, message)
  local attempt = tonumber(message[8] or 0) + 1
  if not hand_over(number, message, attempt) then
    is_full = true
    return false
  end
  call('HSET', P .. 'm:' .. number, 'attempt', attempt, 'state', 'l')
  append(leased, message[1], until_, number)
  return true
end

local function promote(queue)
  local sched = P .. 'sched:' .. queue
  local due = call('ZRANGEBYSCORE', sched, '-inf', now, 'WITHSCORES', 'LIMIT', 0, MOST_PROMOTED)
  for index = 1, #due, 2 do
    local number = due[index]
    local priority = call('HGET', P .. 'm:' .. number, 'priority')
    call('ZADD', P .. 'ready:' .. queue, place(tonumber(priority) or 0, number), number)
    call('ZADD', P .. 'since:' .. queue, due[index + 1], number)
    call('ZREM', sched, number)
  end
  local later = P .. 'later:' .. queue
  due = call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, MOST_PROMOTED)
  for _, number in ipairs(due) do
    local message = call('HMGET', P .. 'm:' .. number, 'priority', 'limit')
    call('ZREM', later, number)
    if message[2] then
      call('ZADD', line_of('line', queue, message[2]), place(tonumber(message[1]) or 0, number), number)
      touched[message[2]] = true
    end
  end
end

-- One of a key: takes it if its key is open. True if the line behind it has another head now.
local function take_turn(number, queue, message)
  local key = message[6]
  local turn = turns[key]
  if not turn then
    turn = look_up(key)
    turns[key] = turn
  end
  if opens_at(turn) > now then
    passed = passed + 1
    return false
  end
  if not lend(number, message) then return false end
  call('SADD', P .. 'running:' .. key, number)
  turn.running = turn.running + 1
  if turn.gap > 0 then
    turn.next_at = math.max(turn.next_at, now - RATE_SLACK) + turn.gap
    call('HSET', P .. 'limit:' .. key, 'next', turn.next_at)
    touched[key] = true
  end
  step_out(number, queue, key)
  return opens_at(turn) <= now and show_head(queue, key)
end

local function take_from(queue)
  local ready, since = P .. 'ready:' .. queue, P .. 'since:' .. queue
  local look = limit - #deliveries
  while #deliveries < limit and not is_full and passed < MOST_PASSED do
    local found = call('ZRANGE', ready, 0, math.min(look, limit - #deliveries) - 1)
    if #found == 0 then return end
    local gone, keyed = {}, {}
    for _, number in ipairs(found) do
      local message = read_fields(number)
      local has_new_head = false
      if not message[1] or not message[2] then
        passed = passed + 1 -- somebody has deleted it, or a server that evicts
      elseif message[6] then
        has_new_head = take_turn(number, queue, message)
      else
        lend(number, message)
      end
      if is_full then break end
      gone[#gone + 1] = number
      if message[6] then
        look = LOOK_AHEAD
        keyed[#keyed + 1] = number
      end
      if has_new_head then break end
    end
    run_many('ZREM', ready, gone)
    run_many('ZREM', since, gone)
    run_many('SREM', P .. 'shown:' .. queue, keyed)
  end
  if call('ZCARD', ready) > 0 then
    has_more = true
    ring(queue)
  end
end

local function take_again(was)
  room = math.huge
  for index = 2, #was, 2 do
    local message = call('HMGET', P .. 'm:' .. was[index], unpack(FIELDS))
    if message[9] == 'l' and tonumber(message[8]) == was[index + 1] then
      hand_over(was[index], message, was[index + 1])
    end
  end
end

local function remember()
  call('SET', P .. 'claimed:' .. slot, cmsgpack.pack(claimed), 'PX', SLACK_MS)
end

local kept = call('GET', P .. 'claimed:' .. slot)
local was = kept and cmsgpack.unpack(kept) or {}
if is_again then
  if was[1] == serial then take_again(was) end
  if #deliveries > 0 then return {'0', 1, deliveries, resting} end
  remember()
elseif tonumber(was[1] or -1) >= tonumber(serial) then
  return {'0', 0, deliveries, resting}
end

for _, key in ipairs(call('ZRANGEBYSCORE', P .. 'timers', '-inf', now, 'LIMIT', 0, 100)) do
  call('ZREM', P .. 'timers', key)
  show_heads_of(key)
end
for _, queue in ipairs(queues) do promote(queue) end
show_heads()
touched = {}
for _, queue in ipairs(queues) do
  if #deliveries < limit and not is_full then
    take_from(queue)
  elseif call('EXISTS', P .. 'ready:' .. queue) == 1 then
    has_more = true
    ring(queue) -- the token may have been taken for this claim
  end
end
for queue, pairs_ in pairs(leased) do run_many('ZADD', P .. 'leased:' .. queue, pairs_) end
show_heads()

if #deliveries > 0 then remember() end
local at = math.huge
for _, queue in ipairs(queues) do
  for _, kind in ipairs({'sched:', 'later:'}) do
    local first = call('ZRANGE', P .. kind .. queue, 0, 0, 'WITHSCORES')
    if first[2] then at = math.min(at, tonumber(first[2])) end
  end
end
local timer = call('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')
if timer[2] then at = math.min(at, tonumber(timer[2])) end
return {exact(at - now), has_more and 1 or 0, deliveries, resting}
