-- Messages on their way. Batches travel as one JSON document and one joined blob of frames, so
-- that a statement is one step however many messages it concerns (see statements.py).
--
-- States, as literals because partial indexes ask for them: 0 scheduled, 1 ready, 2 leased,
-- 3 dormant (see dormant.sql), 4 blocked (see limits.sql).

-- name: declare
INSERT INTO queue (name)
SELECT value FROM json_each(:queues) WHERE true
ON CONFLICT DO NOTHING;

-- name: reserve
UPDATE counter SET value = value + :count RETURNING value;

-- name: insert
-- :rows [[id, queue, priority, due or null, offset, size], ...]  :first the first number
INSERT INTO message (number, id, queue, priority, state, due, size)
SELECT
    :first + key,
    json_extract(value, '$[0]'),
    json_extract(value, '$[1]'),
    json_extract(value, '$[2]'),
    coalesce(json_extract(value, '$[3]'), :now) <= :now,
    coalesce(json_extract(value, '$[3]'), :now),
    json_extract(value, '$[5]')
FROM json_each(:rows) WHERE true
ON CONFLICT (id) DO NOTHING;

-- name: adopt
-- :rows and :first as for insert; leased from the beginning.
INSERT INTO message (number, id, queue, priority, state, due, size, attempt, owner, lease_until)
SELECT
    :first + key,
    json_extract(value, '$[0]'),
    json_extract(value, '$[1]'),
    json_extract(value, '$[2]'),
    2,
    :now,
    json_extract(value, '$[5]'),
    1,
    :owner,
    :until
FROM json_each(:rows) WHERE true
ON CONFLICT (id) DO NOTHING;

-- name: stored
SELECT json_group_array(number) FROM message WHERE number BETWEEN :first AND :last;

-- name: insert_frames
-- :rows and :first as for insert  :frames joined
INSERT INTO frame (number, frame)
SELECT :first + key, substr(:frames, json_extract(value, '$[4]'), json_extract(value, '$[5]'))
FROM json_each(:rows)
WHERE EXISTS (SELECT 1 FROM message WHERE number = :first + key);

-- name: outlook
-- Whether anything is ready in those of these queues that do not rest, when the next scheduled message
-- is due there, and when a limit lets the next one go, in whatever queue.
WITH awake (queue) AS MATERIALIZED (
    SELECT value FROM json_each(:queues) WHERE NOT EXISTS (
        SELECT 1 FROM paused
        WHERE queue = value OR queue = (SELECT broadcast FROM subscription WHERE queue = value)
    )
)
SELECT
    EXISTS (
        SELECT 1 FROM awake
        CROSS JOIN message ON message.queue = awake.queue AND message.state = 1
    ),
    (
        SELECT min((
            SELECT min(due) FROM message WHERE state = 0 AND queue = awake.queue
        ))
        FROM awake
    ),
    (SELECT min(opens_at) FROM bound WHERE opens_at IS NOT NULL);

-- name: promote
UPDATE message SET state = 1
WHERE number IN (
    SELECT number FROM message WHERE state = 0 AND queue = :queue AND due <= :now
        AND NOT EXISTS (
            SELECT 1 FROM paused
            WHERE queue = :queue
                OR queue = (SELECT broadcast FROM subscription WHERE queue = :queue)
        )
    ORDER BY due LIMIT :limit
);

-- name: pick
-- With the size of all that a delivery carries.
SELECT json_group_array(json_array(number, total, limit_key))
FROM (
    SELECT number, limit_key, size + CASE inputs WHEN 0 THEN 0 ELSE (
        SELECT coalesce(sum(length(outcome.frame)), 0)
        FROM input
        CROSS JOIN outcome ON outcome.predecessor = input.predecessor
        WHERE input.message = message.number
    ) END AS total
    FROM message WHERE state = 1 AND queue = :queue
        AND NOT EXISTS (
            SELECT 1 FROM paused
            WHERE queue = :queue
                OR queue = (SELECT broadcast FROM subscription WHERE queue = :queue)
        )
    ORDER BY priority DESC, number LIMIT :limit
);

-- name: lease
UPDATE message SET state = 2, attempt = attempt + 1, owner = :owner, lease_until = :until
WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: fetch
-- Frames are joined into one blob, and each row says in the same order how long its part is.
SELECT
    json_group_array(json_array(
        message.queue, message.id, message.number, message.attempt,
        message.crashes, message.retries, message.priority, length(frame.frame), message.inputs
    )),
    CAST(group_concat(frame.frame, '') AS BLOB)
FROM json_each(:numbers) AS picked
CROSS JOIN message ON message.number = picked.value
CROSS JOIN frame ON frame.number = picked.value;

-- name: held
SELECT json_group_array(json_array(number, attempt, id, limit_key))
FROM message
WHERE state = 2 AND number IN (SELECT value FROM json_each(:numbers));

-- name: extend
UPDATE message SET lease_until = :until
WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: delete
DELETE FROM message
WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: requeue
-- :rows [[number, due or null, crashes to add, retries to add], ...]
UPDATE message
SET
    state = json_extract(change.value, '$[1]') IS NULL,
    due = coalesce(json_extract(change.value, '$[1]'), due),
    crashes = crashes + json_extract(change.value, '$[2]'),
    retries = retries + json_extract(change.value, '$[3]'),
    owner = NULL,
    lease_until = NULL
FROM json_each(:rows) AS change
WHERE message.number = json_extract(change.value, '$[0]');

-- name: keep
-- :rows [[number, place, reason, detail, session or null, sequence or null], ...]
INSERT INTO kept (
    place, queue, id, priority, attempt, crashes, retries, reason, detail, kept_at,
    session, sequence, inputs_of, unique_key, limit_key, limit_most, limit_gap, frame
)
SELECT
    json_extract(move.value, '$[1]'),
    message.queue, message.id, message.priority,
    message.attempt, message.crashes, message.retries,
    json_extract(move.value, '$[2]'),
    json_extract(move.value, '$[3]'),
    :now,
    json_extract(move.value, '$[4]'),
    json_extract(move.value, '$[5]'),
    CASE WHEN message.inputs > 0 THEN message.number END,
    message.unique_key, message.limit_key, bound.most, bound.gap,
    frame.frame
FROM json_each(:rows) AS move
CROSS JOIN message ON message.number = json_extract(move.value, '$[0]')
CROSS JOIN frame ON frame.number = message.number
LEFT JOIN bound ON bound.key = message.limit_key;
