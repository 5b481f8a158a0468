-- flags: no-writes
-- Broadcasts behind a number, in order.
local found = {}
for _, number in ipairs(call('ZRANGEBYSCORE', P .. 'broadcasts', '(' .. take(), '+inf')) do
  local kept = call('GET', P .. 'broadcast:' .. number)
  if kept then
    local space = string.find(kept, ' ', 1, true)
    if tonumber(string.sub(kept, 1, space - 1)) > now then
      found[#found + 1] = {number, string.sub(kept, space + 1)}
    end
  end
end
return found
