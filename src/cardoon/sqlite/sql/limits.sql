-- Messages of which only so many may be leased at a time, or so often one. A message that comes to
-- the head of its queue while its key is closed is set to state 4, blocked, and costs nothing from
-- then on. Whoever makes room sees to it that of each key and queue as many are ready as there is
-- room for, the most urgent and of those the oldest.

-- name: mark
-- :rows [[number, key, most, gap], ...]; not all of them were inserted
UPDATE message SET limit_key = json_extract(change.value, '$[1]')
FROM json_each(:rows) AS change
WHERE message.number = json_extract(change.value, '$[0]');

-- name: set
-- :rows as for mark; of one key the last counts. What is overdue to be deleted is a new key.
INSERT INTO bound (key, most, gap)
SELECT json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
FROM json_each(:rows)
WHERE EXISTS (SELECT 1 FROM message WHERE number = json_extract(value, '$[0]'))
ON CONFLICT (key) DO UPDATE SET most = excluded.most, gap = excluded.gap, expires_at = NULL
WHERE most != excluded.most OR gap != excluded.gap OR expires_at IS NOT NULL;

-- name: restore
INSERT INTO bound (key, most, gap)
SELECT limit_key, limit_most, limit_gap FROM kept
WHERE number = :number AND limit_key IS NOT NULL
ON CONFLICT (key) DO UPDATE SET most = excluded.most, gap = excluded.gap, expires_at = NULL
WHERE expires_at IS NOT NULL;

-- name: places
-- A row for each key: JSON would round the moments.
SELECT
    bound.key, bound.most, bound.gap, bound.next_at,
    CASE WHEN bound.most > 0 THEN (
        SELECT count(*) FROM message WHERE limit_key = asked.value AND state = 2
    ) ELSE 0 END
FROM json_each(:keys) AS asked
CROSS JOIN bound ON bound.key = asked.value;

-- name: lines
-- The same for each queue in which messages of a key are blocked; a step of the recursion takes the
-- next queue, so that it does not matter how many messages those are.
WITH RECURSIVE line (key, queue) AS (
    SELECT value, (SELECT min(queue) FROM message WHERE limit_key = value AND state = 4)
    FROM json_each(:keys)
    UNION ALL
    SELECT key, (
        SELECT min(message.queue) FROM message
        WHERE limit_key = line.key AND state = 4 AND message.queue > line.queue
    )
    FROM line WHERE line.queue IS NOT NULL
)
SELECT
    bound.key, bound.most, bound.gap, bound.next_at,
    CASE WHEN bound.most > 0 THEN (
        SELECT count(*) FROM message WHERE limit_key = line.key AND state = 2
    ) ELSE 0 END,
    line.queue
FROM line
CROSS JOIN bound ON bound.key = line.key
WHERE line.queue IS NOT NULL;

-- name: first
-- Those that are blocked of the first in line, be they blocked or ready.
SELECT json_group_array(number)
FROM (
    SELECT number, state
    FROM (
        SELECT * FROM (
            SELECT number, state, priority FROM message
            WHERE limit_key = :key AND state = 4 AND queue = :queue
            ORDER BY priority DESC, number LIMIT :limit
        )
        UNION ALL
        SELECT * FROM (
            SELECT number, state, priority FROM message
            WHERE limit_key = :key AND state = 1 AND queue = :queue
            ORDER BY priority DESC, number LIMIT :limit
        )
    )
    ORDER BY priority DESC, number LIMIT :limit
)
WHERE state = 4;

-- name: block
UPDATE message SET state = 4 WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: unblock
UPDATE message SET state = 1 WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: advance
UPDATE bound SET next_at = :next_at WHERE key = :key;

-- name: set_timers
UPDATE bound SET opens_at = next_at WHERE key IN (SELECT value FROM json_each(:keys));

-- name: due
SELECT json_group_array(key) FROM bound WHERE opens_at <= :now;

-- name: stop_timers
UPDATE bound SET opens_at = NULL WHERE key IN (SELECT value FROM json_each(:keys));

-- name: of_lost
-- The keys of messages that are about to be taken back.
SELECT json_group_array(DISTINCT limit_key)
FROM message
WHERE limit_key IS NOT NULL AND state = 2
    AND (lease_until <= :monotonic OR owner IN (SELECT value FROM json_each(:owners)));

-- name: waiting
-- How many are due, by queue, key and state.
SELECT queue, limit_key, state, count(*)
FROM message
WHERE limit_key IS NOT NULL AND state IN (0, 1, 4) AND due <= :now
GROUP BY queue, limit_key, state;

-- name: oldest
-- When the first message fell due that none of these keys holds back.
SELECT min(due)
FROM message
WHERE queue = :queue AND state IN (0, 1, 4) AND due <= :now
    AND (limit_key IS NULL OR limit_key NOT IN (SELECT value FROM json_each(:keys)));
