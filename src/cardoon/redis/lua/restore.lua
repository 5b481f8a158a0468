-- needs: work turns waits storing keeping
-- flags:
-- Puts kept messages back, but not those whose id or unique key is in a queue again; returns how many.
local place_, restored = take(), 0
local from_quarantine = place_ == 'Q'

local function put_back(kept)
  local key = P .. 'kept:' .. kept
  local told = call(
    'HMGET', key, 'place', 'id', 'unique', 'queue', 'priority', 'limit', 'most', 'gap', 'number', 'session',
    'sequence', 'waits'
  )
  local id, unique, queue, limit, old = told[2], told[3], told[4], told[6], told[9]
  if told[1] ~= place_ then return false end
  if call('HEXISTS', P .. 'ids', id) == 1 then return false end
  if unique and call('HEXISTS', P .. 'unique', unique) == 1 then return false end
  local number = call('INCR', KEYS[1])
  local m = P .. 'm:' .. number
  forget_kept(kept, place_, id)
  call('RENAME', key, m)
  call('RENAME', P .. 'kept_frame:' .. kept, P .. 'f:' .. number)
  call('HDEL', m, 'place', 'reason', 'detail', 'kept_at', 'number', 'session', 'sequence', 'most', 'gap')
  call('HSET', m, 'state', 'w', 'due', now)
  if not from_quarantine then call('HDEL', m, 'attempt', 'crashes', 'retries') end
  if told[12] then
    for _, predecessor in ipairs(predecessors_of(old)) do
      call('SADD', P .. 'next:' .. predecessor, number)
      call('SREM', P .. 'next:' .. predecessor, old)
    end
    call('RENAME', P .. 'after:' .. old, P .. 'after:' .. number)
  end
  call('HSET', P .. 'ids', id, number)
  call('SADD', P .. 'used', queue)
  if unique then call('HSET', P .. 'unique', unique, id) end
  if limit then
    if not is_used(limit) then set_limit(limit, told[7], told[8]) end
    use(limit, 1)
  end
  local seen, held = P .. 'seen:' .. (told[10] or ''), P .. 'held:' .. (told[10] or '')
  local left = told[10] and call('PTTL', seen) or 0
  if left > 0 then
    -- The mark stays, since one that was signed before the epoch is claimed only if it has one.
    call('SETBIT', seen, told[11], 0)
    call('HSET', held, told[11], number .. ' 0')
    if call('PTTL', held) < left then call('PEXPIRE', held, left) end
  end
  line_up(number, queue, tonumber(told[5]), now, limit)
  return true
end

for _ = taken + 1, #ARGV do
  if put_back(take()) then restored = restored + 1 end
end
show_heads()
return restored
