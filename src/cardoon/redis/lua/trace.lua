-- flags: no-writes
-- All that is known of one message: its fields, or those under which it is kept. Nothing where it is nowhere.
local id, most = take(), tonumber(take())

local function counted_ahead(message, number)
  local own = place(tonumber(message[3]), number)
  local ahead = 0
  for _, other in ipairs(call('ZRANGEBYSCORE', P .. 'ready:' .. message[2], '-inf', '(' .. exact(own), 'LIMIT', 0, 10000)) do
    if call('SISMEMBER', P .. 'shown:' .. message[2], other) == 0 then ahead = ahead + 1 end
  end
  return ahead
end

local function still_missing(number)
  local packed = call('GET', P .. 'after:' .. number)
  local names, seen, count = {}, {}, 0
  if not packed then return names, count end
  local after = cmsgpack.unpack(packed)
  for index = 1, #after, 2 do
    local name = after[index]
    if not seen[name] then
      seen[name] = true
      if call('EXISTS', P .. 'outcome:' .. name) == 0 then
        count = count + 1
        if count <= most then names[#names + 1] = name end
      end
    end
  end
  return names, count
end

local FIELDS = {'state', 'queue', 'priority', 'attempt', 'crashes', 'retries', 'due', 'limit', 'unique'}
local number = call('HGET', P .. 'ids', id)
if number then
  local message = call('HMGET', P .. 'm:' .. number, unpack(FIELDS))
  local where, left, ahead, names, count = message[1] or 'w', '', 0, {}, 0
  if where == 'w' then
    where = tonumber(message[7]) <= now and 'R' or 'S'
    if where == 'R' then ahead = counted_ahead(message, number) end
  elseif where == 'l' then
    local until_ = call('ZSCORE', P .. 'leased:' .. message[2], number)
    if until_ then left = exact(tonumber(until_) - monotonic) end
  elseif where == 'd' then
    names, count = still_missing(number)
  end
  return {
    where, message[2], call('GET', P .. 'f:' .. number) or '', message[3], message[4] or '0',
    message[5] or '0', message[6] or '0', message[7] or '', left, message[8] or '', message[9] or '',
    ahead, count, names,
  }
end

local kept = call('ZRANGE', P .. 'kept_of:' .. id, -1, -1)[1]
if not kept then return {} end
local told = call(
  'HMGET', P .. 'kept:' .. kept, 'queue', 'id', 'reason', 'detail', 'kept_at', 'attempt', 'crashes', 'retries',
  'place', 'priority', 'limit', 'unique'
)
return {
  told[9], told[10] or '0', told[11] or '', told[12] or '',
  {
    told[1], told[2], told[3], told[4], told[5], told[6], told[7], told[8], kept,
    call('GET', P .. 'kept_frame:' .. kept) or '',
  },
}
