-- Messages that are kept for people: dead letters and the quarantine, each under a number of its own. Of the
-- quarantine it is counted in `quarantined`, for each reason, how many there are (`n:`) and how large (`b:`).

local function note_kept(kept, place_, id, reason)
  if place_ == 'Q' then
    call('HINCRBY', P .. 'quarantined', 'n:' .. reason, 1)
    call('HINCRBY', P .. 'quarantined', 'b:' .. reason, call('STRLEN', P .. 'kept_frame:' .. kept))
    call('ZADD', P .. 'kept_why:' .. reason, kept, kept)
  end
  call('ZADD', P .. 'kept_in:' .. place_, kept, kept)
  call('ZADD', P .. 'kept_of:' .. id, kept, kept)
end

-- Puts a message away that has left its queue; what it waited for is told to it there, too.
local function keep(number, id, message, place_, reason, detail, nonce)
  local kept = call('INCR', KEYS[1])
  local key = P .. 'kept:' .. kept
  call('RENAME', P .. 'm:' .. number, key)
  call('RENAME', P .. 'f:' .. number, P .. 'kept_frame:' .. kept)
  call(
    'HSET', key, 'place', place_, 'reason', reason, 'detail', detail, 'kept_at', now,
    'number', number
  )
  if nonce then call('HSET', key, 'session', nonce[1], 'sequence', nonce[2]) end
  if message[7] then
    local limit = call('HMGET', P .. 'limit:' .. message[7], 'most', 'gap')
    call('HSET', key, 'most', limit[1] or 0, 'gap', limit[2] or 0)
  end
  note_kept(kept, place_, id, reason)
end

local function forget_kept(kept, place_, id)
  local reason = place_ == 'Q' and call('HGET', P .. 'kept:' .. kept, 'reason')
  if reason and call('ZREM', P .. 'kept_why:' .. reason, kept) == 1 then
    local size = call('STRLEN', P .. 'kept_frame:' .. kept)
    call('HINCRBY', P .. 'quarantined', 'b:' .. reason, 0 - size)
    if call('HINCRBY', P .. 'quarantined', 'n:' .. reason, -1) < 1 then
      call('HDEL', P .. 'quarantined', 'n:' .. reason, 'b:' .. reason)
    end
  end
  call('ZREM', P .. 'kept_in:' .. place_, kept)
  call('ZREM', P .. 'kept_of:' .. id, kept)
end
