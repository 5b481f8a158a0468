-- needs: work turns waits keeping discarding
-- flags: allow-oom
-- Deletes kept messages: those that are named, or so many of all; returns how many.
local place_, most = take(), tonumber(take())
local numbers = {}
for index = taken + 1, #ARGV do numbers[#numbers + 1] = ARGV[index] end
if most > 0 then numbers = call('ZRANGE', P .. 'kept_in:' .. place_, 0, most - 1) end
local discarded = 0
for _, kept in ipairs(numbers) do
  if discard(kept, place_) then discarded = discarded + 1 end
end
return discarded
