-- Since when replay marks reach back: `epoch`, which whoever finds none, or no number, begins. It never expires, and what takes
-- all marks takes it along.

local function remembers_since()
  local told = tonumber(call('GET', P .. 'epoch') or '')
  if told then return told end
  call('SET', P .. 'epoch', exact(now))
  return now
end
