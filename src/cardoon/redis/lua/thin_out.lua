-- needs: work turns waits keeping discarding
-- flags: allow-oom
-- Deletes the oldest in the quarantine for a reason until at most so many and so large are left, but no more than
-- so many at a time; returns how many, and how large they were.
local reason, messages, bytes, most = take(), tonumber(take()), tonumber(take()), tonumber(take())
local count = tonumber(call('HGET', P .. 'quarantined', 'n:' .. reason) or 0)
local size = tonumber(call('HGET', P .. 'quarantined', 'b:' .. reason) or 0)
local gone, freed = 0, 0
for _, kept in ipairs(call('ZRANGE', P .. 'kept_why:' .. reason, 0, most - 1)) do
  if count - gone <= messages and size - freed <= bytes then break end
  freed = freed + (discard(kept, 'Q') or 0)
  gone = gone + 1
end
return {gone, freed}
