-- flags: no-writes
-- Kept messages by number, from the one behind a number, up to a count and to a size together.
local place_, after, limit, room = take(), take(), tonumber(take()), tonumber(take())
local found = {}
local numbers = call('ZRANGEBYSCORE', P .. 'kept_in:' .. place_, '(' .. after, '+inf', 'LIMIT', 0, limit)
for _, kept in ipairs(numbers) do
  local told = call(
    'HMGET', P .. 'kept:' .. kept, 'queue', 'id', 'reason', 'detail', 'kept_at', 'attempt', 'crashes',
    'retries'
  )
  local frame = call('GET', P .. 'kept_frame:' .. kept)
  room = room - #frame
  if room < 0 and #found > 0 then break end
  told[9], told[10] = kept, frame
  found[#found + 1] = told
end
return found
