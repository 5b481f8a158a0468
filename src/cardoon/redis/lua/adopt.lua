-- needs: work
-- flags:
-- Stores messages that another server keeps as if they had been claimed here, but not those whose id is stored.
-- Returns the number of the first, which the others follow, and a 1 or a 0 for each. A call whose answer
-- was lost is told it when it comes again: it must not take its own messages for somebody else's.
local slot, serial = take(), take()
if take() == '1' then
  local before = call('GET', P .. 'adopted:' .. slot)
  local number, letters
  if before then number, letters = string.match(before, '^' .. serial .. ' (%d+) ([01]+)$') end
  if number then return {tonumber(number), letters} end
end

local until_ = exact(monotonic + tonumber(take()))
local count = (#ARGV - taken) / 4
local first = call('INCRBY', KEYS[1], count) - count + 1
local letters, ids, seen, frames, leased = {}, {}, {}, {}, {}
for index = 1, count do
  local queue, id, frame, priority = take(), take(), take(), take()
  if seen[id] or call('HEXISTS', P .. 'ids', id) == 1 then
    letters[index] = '0'
  else
    local number = first + index - 1
    letters[index] = '1'
    seen[id] = true
    ids[#ids + 1] = id
    ids[#ids + 1] = number
    frames[#frames + 1] = P .. 'f:' .. number
    frames[#frames + 1] = frame
    call(
      'HSET', P .. 'm:' .. number, 'id', id, 'queue', queue, 'priority', priority, 'due', now, 'attempt', 1,
      'state', 'l'
    )
    append(leased, queue, until_, number)
  end
end
run_many('MSET', nil, frames)
run_many('HSET', P .. 'ids', ids)
for queue, pairs_ in pairs(leased) do
  call('SADD', P .. 'used', queue)
  run_many('ZADD', P .. 'leased:' .. queue, pairs_)
end
letters = table.concat(letters)
call('SET', P .. 'adopted:' .. slot, string.format('%s %.0f %s', serial, first, letters), 'PX', SLACK_MS)
return {first, letters}
