-- Rows that no driver writes; see mending.py.

-- name: heads
-- The first messages of a queue as claims meet them: whether their columns hold what belongs there, and
-- their ids as bytes, NULL for what is no text.
SELECT
    message.number,
    coalesce(
        typeof(priority) = 'integer' AND priority BETWEEN -32768 AND 32767
        AND typeof(attempt) = 'integer' AND attempt BETWEEN 0 AND 2147483646
        AND typeof(crashes) = 'integer' AND typeof(retries) = 'integer'
        AND typeof(size) = 'integer' AND typeof(inputs) = 'integer'
        AND typeof(frame.frame) = 'blob'
        AND typeof(coalesce(limit_key, '')) = 'text'
        AND (limit_key IS NULL OR EXISTS (SELECT 1 FROM bound WHERE key = limit_key)),
        0
    ),
    CASE typeof(message.id) WHEN 'text' THEN CAST(message.id AS BLOB) END
FROM message LEFT JOIN frame ON frame.number = message.number
WHERE state = 1 AND queue = :queue
ORDER BY priority DESC, message.number LIMIT :limit;

-- name: frame
INSERT INTO frame (number, frame) VALUES (:number, x'')
ON CONFLICT (number) DO UPDATE SET frame = x'' WHERE typeof(frame.frame) <> 'blob';

-- name: row
UPDATE message SET
    id = :id, priority = 0, attempt = 0, crashes = 0, retries = 0, inputs = 0,
    size = (SELECT length(frame) FROM frame WHERE frame.number = message.number),
    limit_key = NULL, unique_key = NULL
WHERE number = :number;
