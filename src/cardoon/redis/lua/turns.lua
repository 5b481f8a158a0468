-- Messages that take turns. All that wait with a key are in `dues` by the time at which they are due, and
-- those that are due in `line` by their place; only a head of a line lies in `ready`, and only while
-- the key is open. So a claim meets no crowd that has to wait. Whatever may open a key, or change who
-- is first, notes it in `touched`; `show_heads` then puts the heads where claims meet them.

local function line_of(kind, queue, key)
  return P .. kind .. ':' .. #queue .. ':' .. queue .. ':' .. key
end

-- As the contract has it: how much later than allowed a message may be leased without a loss.
local RATE_SLACK = 0.05

local touched = {}
local users = {}

local function look_up(key)
  local told = call('HMGET', P .. 'limit:' .. key, 'most', 'gap', 'next')
  return {
    most = tonumber(told[1] or 0),
    gap = tonumber(told[2] or 0),
    next_at = tonumber(told[3] or 0),
    running = call('SCARD', P .. 'running:' .. key),
  }
end

-- When one more may be leased; infinity if only an end makes room.
local function opens_at(turn)
  if turn.most > 0 and turn.running >= turn.most then return math.huge end
  if turn.gap > 0 then return turn.next_at end
  return 0
end

local function show_head(queue, key)
  local head = call('ZRANGE', line_of('line', queue, key), 0, 0, 'WITHSCORES')
  if not head[1] then return false end
  call('ZADD', P .. 'ready:' .. queue, head[2], head[1])
  call('SADD', P .. 'shown:' .. queue, head[1])
  ring(queue)
  return true
end

local function show_heads_of(key)
  local at = opens_at(look_up(key))
  if at <= now then
    for _, queue in ipairs(call('SMEMBERS', P .. 'lines:' .. key)) do show_head(queue, key) end
  elseif at < math.huge and call('EXISTS', P .. 'lines:' .. key) == 1 then
    call('ZADD', P .. 'timers', at, key)
  end
end

-- A limit is kept while a message is stored that has its key, and as long as its rate still says something.
local function count_users()
  for key, change in pairs(users) do
    local limit = P .. 'limit:' .. key
    if change ~= 0 and call('HINCRBY', limit, 'users', change) <= 0 then
      local next_at = tonumber(call('HGET', limit, 'next') or 0)
      if next_at > now - RATE_SLACK then
        call('PEXPIRE', limit, milliseconds(next_at - now))
      else
        call('DEL', limit)
      end
    end
  end
end

local function show_heads()
  for key in pairs(touched) do show_heads_of(key) end
  count_users()
end

local function use(key, change)
  users[key] = (users[key] or 0) + change
end

local function is_used(key)
  return tonumber(call('HGET', P .. 'limit:' .. key, 'users') or 0) + (users[key] or 0) > 0
end

local latest = {}
local function set_limit(key, most, gap)
  local told = most .. ' ' .. gap
  if latest[key] == told then return end
  latest[key] = told
  local limit = P .. 'limit:' .. key
  call('HSET', limit, 'most', most, 'gap', gap)
  call('PERSIST', limit)
  touched[key] = true
end

-- Puts a message into its line, where it waits until it is due and then until it is claimed.
local function line_up(number, queue, priority, due, key)
  if not key then
    queue_up(number, queue, priority, due)
    return
  end
  call('ZADD', line_of('dues', queue, key), due, number)
  call('SADD', P .. 'lines:' .. key, queue)
  call('SADD', P .. 'keys_in:' .. queue, key)
  if due > now then
    call('ZADD', P .. 'later:' .. queue, due, number)
    ring(queue)
  else
    call('ZADD', line_of('line', queue, key), place(priority, number), number)
    touched[key] = true
  end
end

-- Takes a message out of its line, which may thereby get another head.
local function step_out(number, queue, key)
  if key then
    local dues = line_of('dues', queue, key)
    call('ZREM', line_of('line', queue, key), number)
    call('ZREM', dues, number)
    if call('EXISTS', dues) == 0 then
      call('SREM', P .. 'lines:' .. key, queue)
      call('SREM', P .. 'keys_in:' .. queue, key)
      if call('EXISTS', P .. 'lines:' .. key) == 0 then call('ZREM', P .. 'timers', key) end
    end
  end
end

local function leave_line(number, queue, key)
  call('ZREM', P .. 'ready:' .. queue, number)
  if key then
    call('ZREM', P .. 'later:' .. queue, number)
    call('SREM', P .. 'shown:' .. queue, number)
    step_out(number, queue, key)
    touched[key] = true
  else
    call('ZREM', P .. 'sched:' .. queue, number)
    call('ZREM', P .. 'since:' .. queue, number)
  end
end
