-- flags: no-writes
-- What lies in each queue, but for what takes turns: that is told by `lines`.
local found = {}
local names = call('SUNION', P .. 'queues', P .. 'used')
for _, queue in ipairs(names) do
  local ready, sched = P .. 'since:' .. queue, P .. 'sched:' .. queue
  local due = call('ZCOUNT', sched, '-inf', exact(now))
  local oldest = ''
  local first = call('ZRANGE', ready, 0, 0, 'WITHSCORES')[2]
  local next_ = call('ZRANGE', sched, 0, 0, 'WITHSCORES')[2]
  if first then oldest = first end
  if next_ and tonumber(next_) <= now and (not first or tonumber(next_) < tonumber(first)) then
    oldest = next_
  end
  found[#found + 1] = {
    queue, call('ZCARD', ready) + due, call('ZCARD', sched) - due, call('ZCARD', P .. 'dormant:' .. queue),
    call('ZCARD', P .. 'leased:' .. queue), oldest, call('SISMEMBER', P .. 'queues', queue),
  }
end
return {exact(now), found}
