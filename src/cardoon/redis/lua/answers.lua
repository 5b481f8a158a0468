-- Results. What is stored begins with 1 for a final one or 0, and when it expires, up to the first line end.
-- Whoever waits for one task is told what is stored, unless it is long.

local finals = {}
local MOST_TOLD = 16384

local function keep_result(id, flag, expires_at, value)
  local key = P .. 'result:' .. id
  local left = expires_at ~= '' and tonumber(expires_at) - now
  local told = #value <= MOST_TOLD and value or ''
  if left and left <= 0 then
    call('DEL', key)
    told = ''
  elseif left and ARGV[1] == '' then
    call('SET', key, value, 'PXAT', math.ceil(tonumber(expires_at) * 1000))
  elseif left then
    call('SET', key, value, 'PX', milliseconds(left))
  else
    call('SET', key, value)
  end
  if flag == '1' then
    call('PUBLISH', P .. 'done:' .. id, told)
    finals[#finals + 1] = id
  end
end

local function is_final(id)
  local flag, expires_at = string.match(call('GETRANGE', P .. 'result:' .. id, 0, 40), '^(%d)([^\n]*)\n')
  return flag == '1' and (expires_at == '' or tonumber(expires_at) > now)
end

local function tell_finals()
  if #finals > 0 then call('PUBLISH', P .. 'done', table.concat(finals, '\n')) end
end
