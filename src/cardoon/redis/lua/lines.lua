-- needs: turns
-- flags: no-writes
-- What waits in a queue with each key, some keys at a time; returns where to go on.
local queue = take()
local scanned = call('SSCAN', P .. 'keys_in:' .. queue, take(), 'COUNT', 200)
local found = {}
for _, key in ipairs(scanned[2]) do
  local turn = look_up(key)
  local is_open = opens_at(turn) <= now
  local dues = line_of('dues', queue, key)
  local due = call('ZCOUNT', dues, '-inf', now)
  local first = call('ZRANGE', dues, 0, 0, 'WITHSCORES')[2]
  found[#found + 1] = {
    key, due, call('ZCARD', dues) - due, is_open and 1 or 0, first or '',
    turn.most, exact(turn.gap), turn.running, exact(turn.gap > 0 and turn.next_at or 0),
  }
end
return {scanned[1], exact(now), found}
