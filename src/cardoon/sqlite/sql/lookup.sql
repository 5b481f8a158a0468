-- Where messages lie, by id; the places are values of cardoon.lookup.Place.

-- name: kept
SELECT kept.id, kept.place
FROM json_each(:ids) AS asked
CROSS JOIN kept ON kept.id = asked.value;

-- name: queued
-- A message that is scheduled and due becomes ready with the next claim.
SELECT
    message.id,
    CASE message.state
        WHEN 3 THEN 'dormant'
        WHEN 2 THEN 'leased'
        WHEN 1 THEN 'ready'
        ELSE CASE WHEN message.due <= :now THEN 'ready' ELSE 'scheduled' END
    END
FROM json_each(:ids) AS asked
CROSS JOIN message ON message.id = asked.value;

-- name: message
SELECT
    message.number, message.queue, message.priority, message.state, message.due, message.attempt,
    message.crashes, message.retries, message.lease_until, message.limit_key, message.unique_key,
    owner.name, frame.frame
FROM message
CROSS JOIN frame ON frame.number = message.number
LEFT JOIN owner ON owner.number = message.owner
WHERE message.id = :id;

-- name: ahead
-- Those that have to let others pass hold nobody up.
SELECT
    (
        SELECT count(*) FROM message
        WHERE state = 1 AND queue = :queue AND limit_key IS NULL
            AND (priority > :priority OR (priority = :priority AND number < :number))
    ) + (
        SELECT count(*) FROM message
        WHERE state = 0 AND queue = :queue AND due <= :now AND limit_key IS NULL
            AND (priority > :priority OR (priority = :priority AND number < :number))
    );

-- name: missing
SELECT input.predecessor
FROM input
LEFT JOIN outcome ON outcome.predecessor = input.predecessor
WHERE input.message = :number AND outcome.number IS NULL
GROUP BY input.predecessor
ORDER BY min(input.position)
LIMIT :limit;

-- name: waits_for
SELECT count(DISTINCT input.predecessor)
FROM input
LEFT JOIN outcome ON outcome.predecessor = input.predecessor
WHERE input.message = :number AND outcome.number IS NULL;

-- name: latest_kept
SELECT
    place, priority, limit_key, unique_key,
    number, queue, id, reason, detail, kept_at, frame, attempt, crashes, retries
FROM kept
WHERE id = :id
ORDER BY number DESC LIMIT 1;

-- name: done
SELECT done FROM replay WHERE session = :session AND sequence = :sequence;
