-- What people look at: depths, dead letters, quarantine. Small numbers, one row at a time.

-- name: queues
SELECT name FROM queue;

-- name: ready
SELECT queue, count(*), min(due) FROM message WHERE state = 1 GROUP BY queue;

-- name: scheduled
-- Some of these are due, and become ready with the next claim.
SELECT queue, count(*), sum(due <= :now), min(due) FROM message WHERE state = 0 GROUP BY queue;

-- name: leased
SELECT queue, count(*) FROM message WHERE state = 2 GROUP BY queue;

-- name: dormant
SELECT queue, count(*) FROM message WHERE state = 3 GROUP BY queue;

-- name: purge_blocked
-- Before those that are ready, since it is the end of one of those that would let these go.
DELETE FROM message WHERE number IN (
    SELECT number FROM message
    WHERE limit_key IS NOT NULL AND state = 4 AND queue = :place LIMIT :limit
);

-- name: purge_ready
DELETE FROM message WHERE number IN (
    SELECT number FROM message WHERE state = 1 AND queue = :place LIMIT :limit
);

-- name: purge_scheduled
DELETE FROM message WHERE number IN (
    SELECT number FROM message WHERE state = 0 AND queue = :place LIMIT :limit
);

-- name: purge_dormant
DELETE FROM message WHERE number IN (
    SELECT number FROM message WHERE state = 3 AND queue = :place LIMIT :limit
);

-- name: list
SELECT number, queue, id, reason, detail, kept_at, frame, attempt, crashes, retries
FROM kept
WHERE place = :place AND number > :after
ORDER BY number LIMIT :limit;

-- name: restore_message
-- A dead letter starts afresh. What was quarantined by mistake goes on where it was.
INSERT INTO message (
    number, id, queue, priority, state, due, size, inputs, attempt, crashes, retries,
    unique_key, limit_key
)
SELECT
    :new, id, queue, priority, 1, :now, length(frame),
    (SELECT count(*) FROM input WHERE message = inputs_of),
    CASE place WHEN 'dead' THEN 0 ELSE attempt END,
    CASE place WHEN 'dead' THEN 0 ELSE crashes END,
    CASE place WHEN 'dead' THEN 0 ELSE retries END,
    unique_key, limit_key
FROM kept WHERE place = :place AND number = :number
ON CONFLICT DO NOTHING;

-- name: restore_frame
INSERT INTO frame (number, frame) SELECT :new, frame FROM kept WHERE number = :number;

-- name: restore_inputs
UPDATE input SET message = :new
WHERE message = (SELECT inputs_of FROM kept WHERE number = :number);

-- name: nonce
SELECT session, sequence FROM kept WHERE number = :number;

-- name: discard
DELETE FROM kept WHERE place = :place AND number IN (SELECT value FROM json_each(:numbers));

-- name: discard_some
DELETE FROM kept WHERE number IN (SELECT number FROM kept WHERE place = :place LIMIT :limit);

-- name: quarantine
INSERT INTO kept (
    place, queue, id, priority, attempt, crashes, retries, reason, detail, kept_at, frame
)
VALUES ('quarantine', :queue, :id, 0, 0, 0, 0, :reason, :detail, :now, :frame);

-- name: fills
SELECT reason, messages, bytes FROM quarantined;

-- name: fill
SELECT messages, bytes FROM quarantined WHERE reason = :reason;

-- name: oldest
SELECT number, length(frame) FROM kept
WHERE place = 'quarantine' AND reason = :reason ORDER BY number LIMIT :limit;
