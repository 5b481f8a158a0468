-- Since when replay marks reach back: `epoch`, which whoever finds none begins. It never expires, and what takes
-- all marks takes it along.

local function remembers_since()
  local told = call('GET', P .. 'epoch')
  if told then return tonumber(told) end
  call('SET', P .. 'epoch', exact(now))
  return now
end
