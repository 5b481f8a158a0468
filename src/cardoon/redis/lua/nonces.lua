-- needs: work marks
-- flags:
-- Claims nonces for deliveries, one after the other; returns C claimed, H held by another, or D done, for each.
local states = {}
for index = 1, (#ARGV - taken) / 5 do
  local session, sequence, expires_at, number, attempt = take(), take(), take(), take(), take()
  local held = P .. 'held:' .. session
  if call('GETBIT', P .. 'seen:' .. session, sequence) == 1 then
    states[index] = 'D'
  else
    local ours = number .. ' ' .. attempt
    local mark = call('HGET', held, sequence)
    states[index] = 'C'
    if mark and mark ~= ours then
      local other, before = string.match(mark, '^(%S+) (%d+)$')
      if other ~= number or tonumber(before) > tonumber(attempt) then
        local message = call('HMGET', P .. 'm:' .. other, 'attempt', 'state')
        if message[2] == 'l' and message[1] == before then states[index] = 'H' end
      end
    end
    if states[index] == 'C' and mark ~= ours then
      call('HSET', held, sequence, ours)
      note_expiry(session, expires_at)
    end
  end
end
write_marks()
return states
