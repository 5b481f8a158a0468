-- Move messages to the list of one bridge, and return them.
-- KEYS: the bridge's list, its sign of life, the bridges of this queue, then the queue's own lists,
-- the most urgent first.  ARGV: the bridge, milliseconds that the sign lasts, messages and bytes at most.
-- What was moved before and never acknowledged goes back first: its answer was lost on the way.
while true do
    local back = redis.call('LPOP', KEYS[1])
    if not back then break end
    redis.call('RPUSH', KEYS[4], back)
end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
redis.call('SADD', KEYS[3], ARGV[1])
local moved, bytes = {}, 0
for at = 4, #KEYS do
    while #moved < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
        local message = redis.call('RPOPLPUSH', KEYS[at], KEYS[1])
        if not message then break end
        moved[#moved + 1] = message
        bytes = bytes + #message
    end
end
return moved
