-- flags:
-- Appends frames to a channel, which keeps so many. A channel is a stream whose entries are named after their
-- numbers; the newest one is always there, and knows in `u` until when the channel is remembered.
local channel, expires_at, keep = take(), tonumber(take()), tonumber(take())
local remembered, most = tonumber(take()), tonumber(take())
expires_at = math.min(expires_at, now + most)
local stream = P .. 'posts:' .. channel
local newest, until_ = 0, 0
local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if last then
  newest, until_ = tonumber(string.match(last[1], '^%d+')), tonumber(last[2][4] or '') or 0
  if until_ <= now then
    call('DEL', stream)
    newest, until_ = 0, 0
  end
end
until_ = math.max(until_, math.max(now, expires_at) + remembered)
while taken < #ARGV do
  newest = newest + 1
  local id = string.format('%.0f-0', newest)
  call('XADD', stream, 'MAXLEN', keep, id, 'e', exact(expires_at), 'u', exact(until_), 'f', take())
end
-- What has expired goes as it is met at the beginning, some at a time, but never the newest.
for _, entry in ipairs(call('XRANGE', stream, '-', '+', 'COUNT', 200)) do
  if (tonumber(entry[2][2] or '') or 0) > now or tonumber(string.match(entry[1], '^%d+')) == newest then break end
  call('XDEL', stream, entry[1])
end
call('PEXPIRE', stream, milliseconds(until_ - now))
return 0
