-- name: overdue
SELECT
    EXISTS (SELECT 1 FROM message WHERE state = 2 AND lease_until <= :monotonic)
    OR EXISTS (SELECT 1 FROM dormant WHERE look_at <= :now)
    OR EXISTS (SELECT 1 FROM result WHERE expires_at <= :now)
    OR EXISTS (SELECT 1 FROM replay WHERE expires_at <= :now)
    OR EXISTS (SELECT 1 FROM broadcast WHERE expires_at <= :now)
    OR EXISTS (SELECT 1 FROM post WHERE expires_at <= :now)
    OR EXISTS (SELECT 1 FROM channel WHERE expires_at <= :now)
    OR EXISTS (SELECT 1 FROM bound WHERE expires_at <= :now)
    OR EXISTS (SELECT 1 FROM recent WHERE until <= :now)
    OR EXISTS (SELECT 1 FROM subscription WHERE expires_at <= :monotonic)
    OR EXISTS (SELECT 1 FROM subscription WHERE begun_at > :monotonic);

-- name: owners
SELECT number, name, boot FROM owner;

-- name: enter
INSERT INTO owner (name, boot) VALUES (:name, :boot)
ON CONFLICT (name) DO UPDATE SET boot = excluded.boot
RETURNING number;

-- name: leave
DELETE FROM owner
WHERE number = :owner
    AND NOT EXISTS (SELECT 1 FROM message WHERE state = 2 AND owner = :owner);

-- name: take_back_silent
UPDATE message
SET
    state = 0,
    due = :now + CASE WHEN crashes = 0 THEN :first_pause ELSE :later_pause END,
    crashes = crashes + 1,
    owner = NULL,
    lease_until = NULL
WHERE state = 2 AND lease_until <= :monotonic;

-- name: take_back_dead
UPDATE message
SET
    state = 0,
    due = :now + CASE WHEN crashes = 0 THEN :first_pause ELSE :later_pause END,
    crashes = crashes + 1,
    owner = NULL,
    lease_until = NULL
WHERE state = 2 AND owner IN (SELECT value FROM json_each(:owners));

-- name: bury
DELETE FROM owner WHERE number IN (SELECT value FROM json_each(:owners));

-- name: purge_results
DELETE FROM result WHERE number IN (
    SELECT number FROM result WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit
);

-- name: purge_replay
DELETE FROM replay WHERE (session, sequence) IN (
    SELECT session, sequence FROM replay WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit
);

-- name: purge_broadcasts
DELETE FROM broadcast WHERE expires_at <= :now;

-- name: purge_posts
DELETE FROM post WHERE rowid IN (
    SELECT rowid FROM post WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit
);

-- name: purge_bounds
DELETE FROM bound WHERE key IN (
    SELECT key FROM bound WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit
);

-- name: purge_recent
DELETE FROM recent WHERE key IN (
    SELECT key FROM recent WHERE until <= :now ORDER BY until LIMIT :limit
);
