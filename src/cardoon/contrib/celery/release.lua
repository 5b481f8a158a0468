-- Put back what bridges hold that have gone, so that it is taken next. Returns how many messages.
-- KEYS: the bridges of one queue, that queue.  ARGV: prefix of lists, prefix of signs of life, a bridge
-- that has gone by its own word (or an empty text).
local count = 0
for _, bridge in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    if bridge == ARGV[3] or redis.call('EXISTS', ARGV[2] .. bridge) == 0 then
        while true do
            local message = redis.call('LPOP', ARGV[1] .. bridge)
            if not message then break end
            redis.call('RPUSH', KEYS[2], message)
            count = count + 1
        end
        redis.call('SREM', KEYS[1], bridge)
    end
end
return count
