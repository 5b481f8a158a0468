-- flags: no-writes
-- What the latest claims and adoptions of a claimant took that is still on loan as they lent it.
local claimant, slots = take(), tonumber(take())
local lent = {}

local function tell(number, attempt)
  local message = call(
    'HMGET', P .. 'm:' .. number, 'queue', 'id', 'state', 'attempt', 'priority', 'crashes', 'retries'
  )
  if message[3] == 'l' and tonumber(message[4]) == attempt then
    lent[#lent + 1] = {
      message[1], message[2], tonumber(number), attempt, message[5] or 0, message[6] or 0, message[7] or 0,
    }
  end
end

for index = 0, slots - 1 do
  local slot = claimant .. '.' .. index
  local claimed = call('GET', P .. 'claimed:' .. slot)
  if claimed then
    claimed = cmsgpack.unpack(claimed)
    for place = 2, #claimed, 2 do tell(claimed[place], tonumber(claimed[place + 1])) end
  end
  local adopted = call('GET', P .. 'adopted:' .. slot)
  if adopted then
    local first, letters = string.match(adopted, ' (%d+) ([01]+)$')
    for place = 1, #(letters or '') do
      if string.sub(letters, place, place) == '1' then tell(tonumber(first) + place - 1, 1) end
    end
  end
end
return lent
