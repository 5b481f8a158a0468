-- Version 1. A file at version n has had schema_1.sql to schema_n.sql applied, in order.

CREATE TABLE queue (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

-- The last number given to a message. Numbers are never used twice, not even after the message
-- is gone, so that a number and an attempt together name one loan for all time.
CREATE TABLE counter (
    value INTEGER NOT NULL
);
INSERT INTO counter (value) VALUES (0);

-- Who holds leases: a process that shows its life by a lock on <database>-wake/<name>.lock.
CREATE TABLE owner (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    boot TEXT NOT NULL
);

-- Frames lie in a table of their own: a claim rewrites the row of the message, and a short row
-- keeps that to one page for some forty messages, however large the frames are.
CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state INTEGER NOT NULL,                  -- 0 scheduled, 1 ready, 2 leased
    due REAL NOT NULL,                       -- seconds since the epoch
    attempt INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL,                   -- of the frame, in bytes
    owner INTEGER,
    lease_until REAL                         -- seconds of the host's monotonic clock
);
CREATE INDEX message_scheduled ON message (queue, due) WHERE state = 0;
-- `due` is there only so that the age of the oldest ready message needs no look at the rows.
CREATE INDEX message_ready ON message (queue, priority DESC, number, due) WHERE state = 1;
CREATE INDEX message_leased ON message (lease_until) WHERE state = 2;

CREATE TABLE frame (
    number INTEGER PRIMARY KEY,
    frame BLOB NOT NULL
);
CREATE TRIGGER frame_follows_message AFTER DELETE ON message BEGIN
    DELETE FROM frame WHERE number = old.number;
END;

CREATE TABLE kept (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,                     -- a value of cardoon.broker.Kept
    queue TEXT NOT NULL,
    id TEXT NOT NULL,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    kept_at REAL NOT NULL,                   -- seconds since the epoch
    session TEXT,                            -- the nonce that was marked as done with it,
    sequence INTEGER,                        -- in hexadecimal digits; NULL for none
    frame BLOB NOT NULL
);
CREATE INDEX kept_place ON kept (place);

-- Results are numbered in the order in which they became what they are, so that a waiting client
-- reads each new one once.
CREATE TABLE result (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL UNIQUE,
    final INTEGER NOT NULL,
    expires_at REAL,                         -- seconds since the epoch; NULL for never
    frame BLOB NOT NULL
);
CREATE INDEX result_expiry ON result (expires_at) WHERE expires_at IS NOT NULL;

-- The delivery that claimed a nonce last, and whether the message was carried out to its end.
CREATE TABLE replay (
    session BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    receipt,                                 -- a message's number; NULL when never claimed
    attempt INTEGER NOT NULL,
    done INTEGER NOT NULL,
    expires_at REAL NOT NULL,                -- seconds since the epoch
    PRIMARY KEY (session, sequence)
) WITHOUT ROWID;
CREATE INDEX replay_expiry ON replay (expires_at);

CREATE TABLE broadcast (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    expires_at REAL NOT NULL,                -- seconds since the epoch
    frame BLOB NOT NULL
);
CREATE INDEX broadcast_expiry ON broadcast (expires_at);
