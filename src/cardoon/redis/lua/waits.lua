-- Messages that wait for others to end. An outcome is stored once and only while somebody waits or
-- waited for it, so that each message is told of each predecessor once. Its first byte says how the
-- task ended: S succeeded, F failed, K skipped.

local dropped = {}

-- Once each, however often a message names it.
local function predecessors_of(number)
  local packed = call('GET', P .. 'after:' .. number)
  local ids, seen = {}, {}
  if packed then
    local after = cmsgpack.unpack(packed)
    for index = 1, #after, 2 do
      local id = after[index]
      if not seen[id] then
        seen[id] = true
        ids[#ids + 1] = id
      end
    end
  end
  return ids
end

-- Forgets what a message waited for, and the outcomes that nobody else waits or waited for.
local function forget_inputs(number)
  for _, id in ipairs(predecessors_of(number)) do
    local successors = P .. 'next:' .. id
    call('SREM', successors, number)
    if call('EXISTS', successors) == 0 then call('DEL', P .. 'outcome:' .. id) end
  end
  call('DEL', P .. 'after:' .. number)
end

local function wake(number, message, due)
  call('ZREM', P .. 'dormant:' .. message[1], number)
  call('HSET', P .. 'm:' .. number, 'state', 'w', 'due', due)
  line_up(number, message[1], tonumber(message[2]), due, message[3])
end

-- Has a dormant message know how one that it waits for has ended.
local function tell(number, how, size)
  local m = P .. 'm:' .. number
  local message = call(
    'HMGET', m, 'queue', 'priority', 'limit', 'state', 'trigger', 'missing', 'delay', 'run_at', 'carried'
  )
  if message[4] ~= 'd' then return end
  local due = math.max(now + tonumber(message[7]), tonumber(message[8]))
  if message[5] == 'F' then
    if how == 'F' then
      wake(number, message, due)
    else
      call('HSET', m, 'state', 'x')
      dropped[#dropped + 1] = number
    end
    return
  end
  local missing = tonumber(message[6]) - 1
  call('HSET', m, 'missing', missing, 'carried', tonumber(message[9]) + size)
  if how ~= 'S' then
    wake(number, message, now)
  elseif missing == 0 then
    wake(number, message, due)
  end
end

-- Forgets a message that is neither leased nor in a line, but for its inputs.
local function remove(number, id, unique, key)
  call('HDEL', P .. 'ids', id)
  if unique then call('HDEL', P .. 'unique', unique) end
  if key then use(key, -1) end
end

local function delete(number)
  local m = P .. 'm:' .. number
  local message = call('HMGET', m, 'id', 'unique', 'limit', 'waits')
  remove(number, message[1], message[2], message[3])
  if message[4] then forget_inputs(number) end
  call('DEL', m, P .. 'f:' .. number)
  return message[1]
end

-- Deletes errbacks without a cause, and what waits for them, directly or not.
local function drop()
  while #dropped > 0 do
    local number = table.remove(dropped)
    local m = P .. 'm:' .. number
    local id = call('HGET', m, 'id')
    for _, successor in ipairs(call('SMEMBERS', P .. 'next:' .. id)) do
      if call('HGET', P .. 'm:' .. successor, 'state') == 'd' then
        call('HSET', P .. 'm:' .. successor, 'state', 'x')
        dropped[#dropped + 1] = successor
      end
    end
    call('ZREM', P .. 'dormant:' .. call('HGET', m, 'queue'), number)
    delete(number)
  end
end
