-- needs: work turns waits storing marks answers keeping
-- flags: allow-oom
-- Ends loans, each with its result, its nonce, what it sends and its outcome; returns a 1 or a 0 for each.
-- Loans end one after the other, then all that was sent is stored, then the outcomes arrive. A call
-- whose answer was lost is told it when it comes again.
local slot, serial = take(), take()
if take() == '1' then
  local before = call('GET', P .. 'completed:' .. slot)
  local told = before and string.match(before, '^' .. serial .. ' ([01]+)$')
  if told then return told end
end

local ends, ended_ids = {}, {}
local leased, doomed, gone_ids, gone_keys = {}, {}, {}, {}
local sent, outcomes = {}, {}

local function requeue(number, message, cause, delay)
  local m = P .. 'm:' .. number
  local due = tonumber(message[6])
  if cause ~= '' then call('HINCRBY', m, cause, 1) end
  if delay > 0 then
    due = now + delay
    call('HSET', m, 'state', 'w', 'due', due)
  else
    call('HSET', m, 'state', 'w')
  end
  line_up(number, message[4], tonumber(message[5]), due, message[7])
end

local function end_message(number, id, message)
  ended_ids[id] = true
  gone_ids[#gone_ids + 1] = id
  if message[8] then gone_keys[#gone_keys + 1] = message[8] end
  if message[7] then use(message[7], -1) end
end

local FIELDS = {'id', 'attempt', 'state', 'queue', 'priority', 'due', 'limit', 'unique', 'waits'}

local function take_loan(number, id, attempt)
  if ends[number] then return nil end
  local message = call('HMGET', P .. 'm:' .. number, unpack(FIELDS))
  if message[1] ~= id or message[2] ~= attempt or message[3] ~= 'l' then return nil end
  ends[number] = true
  append(leased, message[4], number)
  if message[7] then
    call('SREM', P .. 'running:' .. message[7], number)
    touched[message[7]] = true
  end
  return message
end

local function settle(number, id, message, kind, first, second, nonce)
  if kind == 'R' then
    requeue(number, message, first, tonumber(second))
    return
  end
  end_message(number, id, message)
  if kind == 'A' then
    if message[9] then forget_inputs(number) end
    doomed[#doomed + 1] = P .. 'm:' .. number
    doomed[#doomed + 1] = P .. 'f:' .. number
  else
    keep(number, id, message, kind, first, second, nonce)
  end
  if nonce then finish(nonce[1], nonce[2], nonce[3]) end
end

local function is_stored(id)
  return not ended_ids[id] and is_known(id)
end

local function take_completion()
  local number, attempt, id, kind = take(), take(), take(), take()
  local first, second = take(), take()
  local nonce, result, value
  local session = take()
  if session ~= '' then nonce = {session, take(), take()} end
  local flag = take()
  if flag ~= '' then
    result = {take(), take()}
    value = take()
  end
  local how = take()
  local outcome = how ~= '' and take()
  local message = take_loan(number, id, attempt)
  if message then
    settle(number, id, message, kind, first, second, nonce)
    if result and (flag == '1' or not is_final(result[1])) then
      keep_result(result[1], flag, result[2], value)
    end
    if how ~= '' and kind ~= 'R' then
      -- In small letters: the same frame as that of the result.
      if string.upper(how) ~= how then
        outcome = string.sub(value, string.find(value, '\n', 1, true) + 1)
      end
      outcomes[#outcomes + 1] = {id, string.upper(how), outcome}
    end
  end
  local wanted = {}
  for _ = 1, tonumber(take()) do
    local one = take_message()
    if message then spread(one, wanted) end
  end
  -- What a later completion ends is still stored now, so a send of its id is dropped.
  for _, one in ipairs(wanted) do
    if not is_stored(one.id) then sent[#sent + 1] = one end
  end
  return message and '1' or '0'
end

local taken_ = {}
while taken < #ARGV do taken_[#taken_ + 1] = take_completion() end
for queue, numbers in pairs(leased) do run_many('ZREM', P .. 'leased:' .. queue, numbers) end
if #gone_ids > 0 then run_many('HDEL', P .. 'ids', gone_ids) end
if #gone_keys > 0 then run_many('HDEL', P .. 'unique', gone_keys) end
for first = 1, #doomed, 4000 do call('DEL', unpack(doomed, first, math.min(first + 3999, #doomed))) end

if #sent > 0 then
  local number, waiting = call('INCRBY', KEYS[1], #sent) - #sent, {}
  for _, message in ipairs(sent) do
    number = number + 1
    if not is_known(message.id) then
      store(message, number, 0)
      if message.after then waiting[#waiting + 1] = number end
    end
  end
  tell_known(waiting)
end
for _, outcome in ipairs(outcomes) do
  local id, how, frame = outcome[1], outcome[2], outcome[3]
  local successors = call('SMEMBERS', P .. 'next:' .. id)
  if #successors > 0 and call('SETNX', P .. 'outcome:' .. id, how .. frame) == 1 then
    for _, number in ipairs(successors) do tell(number, how, #frame) end
  end
end
drop()
write_marks()
tell_finals()
show_heads()
local answer = table.concat(taken_)
call('SET', P .. 'completed:' .. slot, serial .. ' ' .. answer, 'PX', SLACK_MS)
return answer
