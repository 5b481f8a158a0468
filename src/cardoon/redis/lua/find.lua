-- flags: no-writes
-- Where messages lie: a letter for each, or nothing.
local places = {}
for index = 1, #ARGV - taken do
  local id = take()
  local number = call('HGET', P .. 'ids', id)
  places[index] = ''
  if number then
    local message = call('HMGET', P .. 'm:' .. number, 'state', 'due')
    if not message[1] or message[1] == 'w' then
      places[index] = tonumber(message[2]) <= now and 'R' or 'S'
    else
      places[index] = message[1]
    end
  else
    local kept = call('ZRANGE', P .. 'kept_of:' .. id, -1, -1)[1]
    if kept then places[index] = call('HGET', P .. 'kept:' .. kept, 'place') end
  end
end
return places
