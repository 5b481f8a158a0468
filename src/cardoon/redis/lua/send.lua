-- flags:
-- Stores messages that come alone, as most do: none waits for another, none is counted, unique or broadcast. What
-- `publish` does for any, in half the time: a script makes all of its functions anew each time it runs.
local SIZE = 5
local ids, m, f = P .. 'ids', P .. 'm:', P .. 'f:'
local frames, names, queues, fresh, stored = {}, {}, {}, {}, {}

local number = call('INCRBY', KEYS[1], (#ARGV - 2) / SIZE) - (#ARGV - 2) / SIZE
-- The first message of a store begins its epoch, if its sender may.
if number == 0 then redis.pcall('SET', P .. 'epoch', exact(now), 'NX') end
for at = 3, #ARGV, SIZE do
  local queue, id, priority, run_at = ARGV[at], ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
  number = number + 1
  if not stored[id] and call('HEXISTS', ids, id) == 0 then
    stored[id], queues[queue] = true, true
    local due = run_at == '' and now or tonumber(run_at)
    call('HSET', m .. number, 'id', id, 'queue', queue, 'priority', priority, 'due', due)
    frames[#frames + 1] = f .. number
    frames[#frames + 1] = ARGV[at + 2]
    names[#names + 1] = id
    names[#names + 1] = number
    if run_at == '' then
      append(fresh, queue, place(priority, number), number)
    else
      queue_up(number, queue, priority, due)
    end
  end
end
run_many('MSET', nil, frames)
run_many('HSET', ids, names)
for queue in pairs(queues) do call('SADD', P .. 'used', queue) end
for queue, places in pairs(fresh) do
  run_many('ZADD', P .. 'ready:' .. queue, places)
  ring(queue)
end
