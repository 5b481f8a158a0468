-- Replay marks. What is done is a bit in `seen`, one bitmap for each session; what is only claimed is a
-- field in `held`. Both expire with the last message of the session.

local lasts = {}

local function note_expiry(session, expires_at)
  lasts[session] = math.max(lasts[session] or 0, tonumber(expires_at))
end

local function finish(session, sequence, expires_at)
  call('SETBIT', P .. 'seen:' .. session, sequence, 1)
  call('HDEL', P .. 'held:' .. session, sequence)
  note_expiry(session, expires_at)
end

local function expire_marks()
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
