-- name: delete_replaceable
-- A state before the end gives way to the next, and what has expired to anything.
DELETE FROM result
WHERE task_id IN (SELECT value FROM json_each(:tasks)) AND (NOT final OR expires_at <= :now);

-- name: insert
-- :rows [[task id, final, expires at or null, offset, size], ...]  :frames joined
INSERT INTO result (task_id, final, expires_at, frame)
SELECT
    json_extract(value, '$[0]'),
    json_extract(value, '$[1]'),
    json_extract(value, '$[2]'),
    substr(:frames, json_extract(value, '$[3]'), json_extract(value, '$[4]'))
FROM json_each(:rows) WHERE true
ON CONFLICT (task_id) DO NOTHING;

-- name: load
SELECT task_id, frame, final, expires_at
FROM result
WHERE task_id IN (SELECT value FROM json_each(:tasks))
    AND (expires_at IS NULL OR expires_at > :now);

-- name: last
SELECT coalesce(max(number), 0) FROM result;

-- name: news
-- Final results behind a number, without their frames.
SELECT json_group_array(task_id), max(number)
FROM result
WHERE number > :after AND final;

-- name: forget
DELETE FROM result
WHERE task_id IN (SELECT value FROM json_each(:tasks));
