-- flags: no-writes
-- Which of these nonces are done: a 1 or a 0 for each.
local found = {}
for index = 1, (#ARGV - taken) / 3 do
  local session, sequence = take(), take(), take()
  found[index] = call('GETBIT', P .. 'seen:' .. session, sequence)
end
return found
