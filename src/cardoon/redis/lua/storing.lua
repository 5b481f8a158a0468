-- Messages that are sent, by a client or by what a loan ends with.

-- As the contract has it: how long a message may wait for one that is nowhere.
local STRAY_GRACE = 10

local known_queues = {}
local stored_here, frames, names, fresh = {}, {}, {}, {}

local function take_message()
  local message = {
    queue = take(), id = take(), frame = take(), priority = tonumber(take()), run_at = take(),
  }
  local more = take()
  if string.find(more, 'u', 1, true) then
    message.unique, message.period = take(), tonumber(take())
  end
  if string.find(more, 'l', 1, true) then
    message.limit, message.most, message.gap = take(), take(), take()
  end
  if string.find(more, 'a', 1, true) then
    message.trigger, message.delay = take(), take()
    local after = {}
    for index = 1, 2 * tonumber(take()) do after[index] = take() end
    message.after = after
  end
  message.fanout = string.find(more, 'f', 1, true)
  return message
end

-- Puts a message behind others that are to be stored, or in its place a copy for each subscriber.
local subscribers_of = {}
local function spread(message, messages)
  if not message.fanout then
    messages[#messages + 1] = message
    return
  end
  local broadcast = message.queue
  local queues = subscribers_of[broadcast]
  if not queues then
    queues = call('ZRANGEBYSCORE', P .. 'subscribers:' .. broadcast, '(' .. exact(monotonic), '+inf')
    subscribers_of[broadcast] = queues
  end
  for _, queue in ipairs(queues) do
    messages[#messages + 1] = {
      queue = queue, id = message.id .. '>' .. queue, frame = message.frame, priority = message.priority,
      run_at = message.run_at,
    }
  end
end

local function give_unique(message, number, period)
  if call('HSETNX', P .. 'unique', message.unique, message.id) == 0 then return end
  call('HSET', P .. 'm:' .. number, 'unique', message.unique)
  if period > 0 then
    local value = exact(now + period) .. ' ' .. message.id
    call('SET', P .. 'recent:' .. message.unique, value, 'PX', milliseconds(period))
  end
end

local function is_known(id)
  return stored_here[id] or call('HEXISTS', P .. 'ids', id) == 1
end

-- The id of the message in whose favour this one is not stored.
local function holder_of(message)
  if is_known(message.id) then return message.id end
  local holder = call('HGET', P .. 'unique', message.unique)
  if holder then return holder end
  local recent = call('GET', P .. 'recent:' .. message.unique)
  if not recent then return false end
  local space = string.find(recent, ' ', 1, true)
  return tonumber(string.sub(recent, 1, space - 1)) > now and string.sub(recent, space + 1)
end

local function lay_down(message, number)
  local after, seen, missing = message.after, {}, 0
  for index = 1, #after, 2 do
    local id = after[index]
    if not seen[id] then
      seen[id] = true
      missing = missing + 1
      call('SADD', P .. 'next:' .. id, number)
    end
  end
  call('SET', P .. 'after:' .. number, cmsgpack.pack(after))
  call('ZADD', P .. 'dormant:' .. message.queue, now + STRAY_GRACE, number)
  call(
    'HSET', P .. 'm:' .. number, 'state', 'd', 'waits', #after / 2, 'trigger', message.trigger, 'missing', missing,
    'delay', message.delay, 'run_at', message.run_at == '' and '0' or message.run_at, 'carried', 0
  )
end

local function store(message, number, period)
  local queue = message.queue
  local due = message.run_at == '' and now or tonumber(message.run_at)
  if not known_queues[queue] then
    known_queues[queue] = true
    call('SADD', P .. 'used', queue)
  end
  local m = P .. 'm:' .. number
  call(
    'HSET', m, 'id', message.id, 'queue', queue, 'priority', message.priority, 'due', due
  )
  frames[#frames + 1] = P .. 'f:' .. number
  frames[#frames + 1] = message.frame
  names[#names + 1] = message.id
  names[#names + 1] = number
  stored_here[message.id] = true
  if message.limit then
    call('HSET', m, 'limit', message.limit)
    use(message.limit, 1)
    set_limit(message.limit, message.most, message.gap)
  end
  if message.unique then give_unique(message, number, period) end
  if message.after then
    lay_down(message, number)
  elseif message.run_at == '' and not message.limit then
    append(fresh, queue, place(message.priority, number), number)
  else
    line_up(number, queue, message.priority, due, message.limit)
  end
end

-- All are stored before those that wait are told what is known.
local function tell_known(sent)
  run_many('MSET', nil, frames)
  run_many('HSET', P .. 'ids', names)
  for queue, places in pairs(fresh) do
    run_many('ZADD', P .. 'ready:' .. queue, places)
    ring(queue)
  end
  for _, number in ipairs(sent) do
    for _, id in ipairs(predecessors_of(number)) do
      local outcome = P .. 'outcome:' .. id
      local how = call('GETRANGE', outcome, 0, 0)
      if how ~= '' then tell(number, how, call('STRLEN', outcome) - 1) end
    end
  end
  drop()
end
