-- needs: work marks epoch
-- flags:
-- Claims nonces for deliveries, one after the other; returns for each C claimed, H held by another, D done, or B
-- where it was signed before the epoch and has no mark.
local states, since = {}, remembers_since()
for index = 1, (#ARGV - taken) / 6 do
  local session, sequence, expires_at, number, attempt = take(), take(), take(), take(), take()
  local signed_by = take()
  local held = P .. 'held:' .. session
  if call('GETBIT', P .. 'seen:' .. session, sequence) == 1 then
    states[index] = 'D'
  else
    local ours = number .. ' ' .. attempt
    local mark = call('HGET', held, sequence)
    states[index] = 'C'
    if not mark and signed_by ~= '' and tonumber(signed_by) < since then states[index] = 'B' end
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
