-- Deletes a kept message with what belongs to it; returns how large its frame was, or nothing if it is not there.

local function discard(kept, place_)
  local key, frame = P .. 'kept:' .. kept, P .. 'kept_frame:' .. kept
  local told = call('HMGET', key, 'place', 'id', 'number', 'waits')
  if told[1] ~= place_ then return nil end
  local size = call('STRLEN', frame)
  forget_kept(kept, place_, told[2])
  if told[4] then forget_inputs(told[3]) end
  call('DEL', key, frame)
  return size
end
