-- flags: allow-oom
-- Deletes a record if its revision is still the one that is named; 1 if it did. Asked again, because an answer was
-- lost, it says so as well of one that is gone.
local kind, name, revision, is_again = take(), take(), take(), take() == '1'
local records = P .. 'records:' .. kind
local there = call('HGET', records, name)
if not there then return is_again and 1 or 0 end
if string.match(there, '^%d+') ~= revision then return 0 end
call('HDEL', records, name)
return 1
