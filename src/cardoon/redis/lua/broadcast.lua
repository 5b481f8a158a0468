-- flags:
-- Keeps a frame for every worker until it expires.
local frame, expires_at = take(), take()
local number = call('INCR', KEYS[1])
local left = tonumber(expires_at) - now
if left > 0 then
  call('SET', P .. 'broadcast:' .. number, expires_at .. ' ' .. frame, 'PX', milliseconds(left))
  call('ZADD', P .. 'broadcasts', number, number)
end
return number
