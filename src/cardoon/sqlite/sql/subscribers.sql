-- Who gets copies of what is sent to broadcast queues. Times are of the host's monotonic clock; one
-- that began in the future is of a time before the host was started.

-- name: known
-- :rows [[broadcast, queue], ...]. Whether each is there.
SELECT json_group_array(EXISTS (
    SELECT 1 FROM subscription
    WHERE queue = json_extract(value, '$[1]')
        AND broadcast = json_extract(value, '$[0]')
        AND begun_at <= :now AND expires_at > :now
))
FROM json_each(:rows);

-- name: begin
INSERT INTO subscription (queue, broadcast, begun_at, expires_at)
SELECT json_extract(value, '$[1]'), json_extract(value, '$[0]'), :now, :until
FROM json_each(:rows) WHERE true
ON CONFLICT (queue) DO UPDATE
SET broadcast = excluded.broadcast, begun_at = excluded.begun_at, expires_at = excluded.expires_at;

-- name: count
SELECT broadcast, count(*) FROM subscription
WHERE broadcast IN (SELECT json_extract(value, '$[0]') FROM json_each(:rows))
    AND begun_at <= :now AND expires_at > :now
GROUP BY broadcast;

-- name: of
SELECT json_group_array(json_array(broadcast, queue))
FROM subscription
WHERE broadcast IN (SELECT value FROM json_each(:broadcasts))
    AND begun_at <= :now AND expires_at > :now;

-- name: all
SELECT queue, broadcast, begun_at <= :now AND expires_at > :now FROM subscription;

-- name: behind
SELECT json_group_array(queue) FROM subscription WHERE broadcast = :broadcast;

-- name: end
UPDATE subscription SET expires_at = -1
WHERE (queue, broadcast) IN (
    SELECT json_extract(value, '$[1]'), json_extract(value, '$[0]') FROM json_each(:rows)
)
RETURNING queue;

-- name: over
SELECT json_group_array(queue) FROM (
    SELECT queue FROM subscription WHERE expires_at <= :now
    UNION ALL
    SELECT queue FROM subscription WHERE begun_at > :now
    LIMIT :limit
);

-- name: delete_copies
-- Those that wait, unless somebody has subscribed the queue again.
DELETE FROM message WHERE number IN (
    SELECT message.number
    FROM json_each(:queues) AS ended
    CROSS JOIN subscription
        ON subscription.queue = ended.value
        AND (subscription.expires_at <= :now OR subscription.begun_at > :now)
    CROSS JOIN message ON message.queue = ended.value AND message.state = 1
    UNION ALL
    SELECT message.number
    FROM json_each(:queues) AS ended
    CROSS JOIN subscription
        ON subscription.queue = ended.value
        AND (subscription.expires_at <= :now OR subscription.begun_at > :now)
    CROSS JOIN message ON message.queue = ended.value AND message.state = 0
    LIMIT :limit
);

-- name: forget
-- Not while there is a message left.
DELETE FROM subscription
WHERE queue IN (SELECT value FROM json_each(:queues))
    AND (expires_at <= :now OR begun_at > :now)
    AND NOT EXISTS (SELECT 1 FROM message WHERE queue = subscription.queue AND state = 0)
    AND NOT EXISTS (SELECT 1 FROM message WHERE queue = subscription.queue AND state = 1)
    AND NOT EXISTS (SELECT 1 FROM message WHERE queue = subscription.queue AND state = 2);
