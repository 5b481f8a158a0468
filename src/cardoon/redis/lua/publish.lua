-- needs: turns waits storing
-- flags:
-- Stores messages, but not those whose id is stored, nor those whose unique key is taken; returns who stands in
-- for whom.
local messages = {}
for _ = 1, tonumber(take()) do spread(take_message(), messages) end
if #messages == 0 then return {} end

local number = call('INCRBY', KEYS[1], #messages) - #messages
-- The first message of a store begins its epoch, if its sender may.
if number == 0 then redis.pcall('SET', P .. 'epoch', exact(now), 'NX') end
local stand_ins, waiting = {}, {}
for _, message in ipairs(messages) do
  number = number + 1
  local holder = message.unique and holder_of(message)
  if holder then
    stand_ins[#stand_ins + 1] = message.id
    stand_ins[#stand_ins + 1] = holder
  elseif message.unique or not is_known(message.id) then
    store(message, number, message.period)
    if message.after then waiting[#waiting + 1] = number end
  end
end
tell_known(waiting)
show_heads()
return stand_ins
