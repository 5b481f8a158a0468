-- needs: work
-- flags: allow-oom
-- Renews the leases that are still held; returns a 1 or a 0 for each.
local until_ = exact(monotonic + tonumber(take()))
local kept, leased = {}, {}
for index = 1, (#ARGV - taken) / 3 do
  local number, attempt, id = take(), take(), take()
  local message = call('HMGET', P .. 'm:' .. number, 'id', 'attempt', 'state', 'queue')
  local is_held = message[1] == id and message[2] == attempt and message[3] == 'l'
  kept[index] = is_held and 1 or 0
  if is_held then append(leased, message[4], until_, number) end
end
for queue, renewed in pairs(leased) do run_many('ZADD', P .. 'leased:' .. queue, renewed) end
return kept
