-- needs: work turns waits deleting
-- flags: allow-oom
-- Deletes some of the copies that wait in a queue, if its subscription is over; returns how many.
local deleted = tidy_up(take(), tonumber(take()))
show_heads()
return deleted
