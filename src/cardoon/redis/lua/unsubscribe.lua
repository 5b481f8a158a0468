-- needs: work
-- flags: allow-oom
-- Ends subscriptions; returns the queues whose they were, which have yet to be tidied up.
local ended = {}
while taken < #ARGV do
  local broadcast, queue = take(), take()
  if call('HGET', P .. 'subscribed', queue) == broadcast then
    call('ZADD', P .. 'subscriptions', '-inf', queue)
    call('ZADD', P .. 'subscribers:' .. broadcast, '-inf', queue)
    ended[#ended + 1] = queue
  end
end
return ended
