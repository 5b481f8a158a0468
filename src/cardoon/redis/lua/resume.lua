-- needs: work
-- flags: allow-oom
-- Lets queues go on. Who waits for a queue that rests listens to another bell, which sends do not ring.
local function wake(queue)
  ring(queue)
  local bell = P .. 'rest:' .. queue
  if call('EXISTS', bell) == 0 then call('LPUSH', bell, '') end
end

while taken < #ARGV do
  local queue = take()
  if call('SREM', P .. 'paused', queue) == 1 then
    wake(queue)
    for _, behind in ipairs(call('ZRANGE', P .. 'subscribers:' .. queue, 0, -1)) do wake(behind) end
  end
end
return 0
