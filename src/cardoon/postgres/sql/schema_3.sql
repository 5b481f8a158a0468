-- Version 3: since when replay marks reach back, and the quarantine by reason. Who asks where a message is needs
-- the functions of `tracing` besides, so a database without them is to be upgraded first.

-- The epoch is the mark of session '', which no message has: `receipt` is when it began, in microseconds since
-- the epoch. It lies among the marks, so that what takes all of these takes it along. A database that has lent
-- messages before this version has always remembered.
INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
SELECT
    '', 0,
    CASE WHEN is_called THEN 0 ELSE (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END,
    0, false, 'Infinity'
FROM message_number
ON CONFLICT DO NOTHING;

DROP FUNCTION IF EXISTS claim_nonces(bytea[], bigint[], bigint[], integer[], double precision[]);

CREATE INDEX IF NOT EXISTS kept_reason ON kept (reason, number) WHERE place = 'quarantine';
