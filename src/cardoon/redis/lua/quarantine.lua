-- needs: work keeping
-- flags:
-- Keeps a frame that came by another way than a queue.
local queue, id, frame, reason, detail = take(), take(), take(), take(), take()
local kept = call('INCR', KEYS[1])
call(
  'HSET', P .. 'kept:' .. kept, 'place', 'Q', 'queue', queue, 'id', id, 'reason', reason,
  'detail', detail, 'kept_at', now, 'number', 0, 'priority', 0
)
call('SET', P .. 'kept_frame:' .. kept, frame)
note_kept(kept, 'Q', id, reason)
return kept
