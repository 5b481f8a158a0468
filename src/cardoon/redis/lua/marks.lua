-- Replay marks. What is done is a bit in `seen`, one bitmap for each session; what is only claimed is a
-- field in `held`. Both expire with the last message of the session.

local lasts, done, released = {}, {}, {}

local function note_expiry(session, expires_at)
  lasts[session] = math.max(lasts[session] or 0, tonumber(expires_at))
end

local function finish(session, sequence, expires_at)
  local bits = append(done, session, 'SET', 'u1')
  bits[#bits + 1] = sequence
  bits[#bits + 1] = '1'
  append(released, session, sequence)
  note_expiry(session, expires_at)
end

local function write_marks()
  for session, bits in pairs(done) do
    run_many('BITFIELD', P .. 'seen:' .. session, bits)
    run_many('HDEL', P .. 'held:' .. session, released[session])
  end
  for session, expires_at in pairs(lasts) do
    local wanted = math.ceil(math.max(0, expires_at - now) * 1000) + SLACK_MS
    for _, kind in ipairs({'seen:', 'held:'}) do
      local left = call('PTTL', P .. kind .. session)
      if left ~= -2 and left < wanted then
        call('PEXPIRE', P .. kind .. session, string.format('%.0f', wanted))
      end
    end
  end
end
