-- needs: answers
-- flags:
-- Keeps results; the first final one of a task stays.
for _ = 1, (#ARGV - taken) / 4 do
  local flag, id, expires_at, value = take(), take(), take(), take()
  if not is_final(id) then keep_result(id, flag, expires_at, value) end
end
tell_finals()
return 0
