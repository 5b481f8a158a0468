-- needs: work turns waits deleting
-- flags: allow-oom
-- Deletes some of what waits in queues, and no more than the last argument says; returns how many.
local most, deleted = tonumber(ARGV[#ARGV]), 0
for _ = taken + 2, #ARGV do
  local queue = take()
  if deleted < most then deleted = deleted + delete_waiting(queue, most - deleted) end
end
show_heads()
return deleted
