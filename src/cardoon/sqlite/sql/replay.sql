-- name: claim
-- :rows [[receipt, attempt, sequence, expires at, offset, size], ...]  :sessions joined
-- Only a delivery whose loan has ended, or the same message delivered again, gives a claim up.
INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
SELECT
    substr(:sessions, json_extract(value, '$[4]'), json_extract(value, '$[5]')),
    json_extract(value, '$[2]'),
    json_extract(value, '$[0]'),
    json_extract(value, '$[1]'),
    0,
    json_extract(value, '$[3]')
FROM json_each(:rows) WHERE true
ON CONFLICT DO UPDATE SET receipt = excluded.receipt, attempt = excluded.attempt
WHERE NOT done AND (
    (receipt = excluded.receipt AND attempt <= excluded.attempt)
    OR NOT EXISTS (
        SELECT 1 FROM message
        WHERE message.number = replay.receipt
            AND message.attempt = replay.attempt
            AND message.state = 2
    )
);

-- name: holders
SELECT json_group_array(json_array(claim.key, replay.receipt, replay.attempt, replay.done))
FROM json_each(:rows) AS claim
CROSS JOIN replay
    ON replay.session
        = substr(:sessions, json_extract(claim.value, '$[4]'), json_extract(claim.value, '$[5]'))
    AND replay.sequence = json_extract(claim.value, '$[2]');

-- name: finish
-- :rows [[sequence, expires at, offset, size], ...]  :sessions joined
INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
SELECT
    substr(:sessions, json_extract(value, '$[2]'), json_extract(value, '$[3]')),
    json_extract(value, '$[0]'),
    NULL,
    0,
    1,
    json_extract(value, '$[1]')
FROM json_each(:rows) WHERE true
ON CONFLICT DO UPDATE SET done = 1;

-- name: reopen
-- The mark stays, since one that was signed before the epoch is claimed only if it has one.
UPDATE replay SET receipt = :receipt, attempt = 0, done = 0
WHERE session = :session AND sequence = :sequence;

-- name: since
SELECT receipt FROM replay WHERE session = x'' AND sequence = 0;

-- name: begin
INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
VALUES (x'', 0, :now, 0, 0, 9e999)
ON CONFLICT DO NOTHING;

-- name: begin_anew
INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
VALUES (x'', 0, :now, 0, 0, 9e999)
ON CONFLICT DO UPDATE SET receipt = excluded.receipt;

-- name: memory
SELECT
    (SELECT receipt FROM replay WHERE session = x'' AND sequence = 0),
    (SELECT value FROM counter);
