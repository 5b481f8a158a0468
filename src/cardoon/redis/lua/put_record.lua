-- flags:
-- Writes a record if its revision is still the one that is named. A record is `<revision> <token>\n<frame>`; who
-- finds his own token has written it when he asked before. Returns 1 if it is written, 0 if not, and -1 where there
-- are too many.
local kind, name, frame, revision, token, most = take(), take(), take(), take(), take(), tonumber(take())
local records = P .. 'records:' .. kind
local there = call('HGET', records, name)
local found, whose = '0', ''
if there then found, whose = string.match(there, '^(%d+) (%x+)\n') end
if whose == token then return 1 end
if found ~= revision then return 0 end
if not there and call('HLEN', records) >= most then return -1 end
local head = string.format('%.0f %s\n', tonumber(revision) + 1, token)
call('HSET', records, name, head .. frame)
return 1
