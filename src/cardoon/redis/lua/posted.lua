-- flags: no-writes
-- The number of a channel's newest frame, and the frames behind a number: no more than so many, and no more bytes
-- than so many but for the first.
local channel, after, limit, bytes = take(), tonumber(take()), tonumber(take()), tonumber(take())
local stream = P .. 'posts:' .. channel
local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if not last or (tonumber(last[2][4] or '') or 0) <= now then return {'0'} end
local newest = tonumber(string.match(last[1], '^%d+'))
if after > newest then after = 0 end
local found, size = {string.format('%.0f', newest)}, 0
while after < newest and #found <= 2 * limit - 1 do
  local first = string.format('%.0f-0', after + 1)
  local entries = call('XRANGE', stream, first, '+', 'COUNT', 50)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    after = tonumber(string.match(entry[1], '^%d+'))
    if (tonumber(entry[2][2] or '') or 0) > now then
      local frame = entry[2][6] or ''
      size = size + #frame
      if #found > 2 * limit - 1 or (size > bytes and #found > 1) then return found end
      found[#found + 1] = string.match(entry[1], '^%d+')
      found[#found + 1] = frame
    end
  end
end
return found
