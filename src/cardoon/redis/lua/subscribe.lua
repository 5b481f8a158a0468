-- needs: work
-- flags: allow-oom
-- Begins or renews subscriptions, all or none. Returns a 1 for each that was there and a 0 for each other one,
-- or the name of a broadcast queue that would have more than `most`. A queue lies by the end of its
-- subscription in `subscriptions` and in `subscribers` of its broadcast queue, which `subscribed` names.
local most, until_ = tonumber(take()), exact(monotonic + tonumber(take()))

local ends, broadcasts, sizes = {}, {}, {}
local function size_of(broadcast)
  if not sizes[broadcast] then
    sizes[broadcast] = call('ZCOUNT', P .. 'subscribers:' .. broadcast, '(' .. exact(monotonic), '+inf')
  end
  return sizes[broadcast]
end

local there, wanted, left, named = {}, {}, {}, {}
while taken < #ARGV do
  local broadcast, queue = take(), take()
  local before, is_live = broadcasts[queue], true
  if before == nil then
    before = call('HGET', P .. 'subscribed', queue)
    is_live = before and tonumber(call('ZSCORE', P .. 'subscriptions', queue) or 0) > monotonic
  end
  there[#there + 1] = is_live and before == broadcast and 1 or 0
  if is_live then sizes[before] = size_of(before) - 1 end
  sizes[broadcast] = size_of(broadcast) + 1
  broadcasts[queue] = broadcast
  named[#named + 1] = broadcast
  if before and before ~= broadcast then left[#left + 1] = {before, queue} end
end

for _, broadcast in ipairs(named) do
  if sizes[broadcast] > most then return broadcast end
end
for _, one in ipairs(left) do call('ZREM', P .. 'subscribers:' .. one[1], one[2]) end
for queue, broadcast in pairs(broadcasts) do
  append(ends, 'subscriptions', until_, queue)
  append(ends, 'subscribers:' .. broadcast, until_, queue)
  wanted[#wanted + 1] = queue
  wanted[#wanted + 1] = broadcast
end
for key, pairs_ in pairs(ends) do run_many('ZADD', P .. key, pairs_) end
run_many('HSET', P .. 'subscribed', wanted)
return there
