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
    state INTEGER NOT NULL,                  -- 0 scheduled, 1 ready, 2 leased, 3 dormant
    due REAL NOT NULL,                       -- seconds since the epoch
    attempt INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL,                   -- of the frame, in bytes
    inputs INTEGER NOT NULL DEFAULT 0,       -- how many rows of `input` are its own
    owner INTEGER,
    lease_until REAL                         -- seconds of the host's monotonic clock
);
CREATE INDEX message_scheduled ON message (queue, due) WHERE state = 0;
-- `due` is there only so that the age of the oldest ready message needs no look at the rows.
CREATE INDEX message_ready ON message (queue, priority DESC, number, due) WHERE state = 1;
CREATE INDEX message_leased ON message (lease_until) WHERE state = 2;
CREATE INDEX message_dormant ON message (queue) WHERE state = 3;

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
    inputs_of INTEGER,                       -- the number of the message, if it has inputs
    frame BLOB NOT NULL
);
CREATE INDEX kept_place ON kept (place);
CREATE INDEX kept_id ON kept (id);
CREATE INDEX kept_inputs ON kept (inputs_of) WHERE inputs_of IS NOT NULL;

-- What a message waits for, or did, for as long as it is stored or kept; by the number that it had.
CREATE TABLE input (
    message INTEGER NOT NULL,
    position INTEGER NOT NULL,
    predecessor TEXT NOT NULL,               -- the id of a message
    request TEXT NOT NULL,                   -- in hexadecimal digits
    PRIMARY KEY (message, position)
) WITHOUT ROWID;
CREATE INDEX input_predecessor ON input (predecessor);
CREATE TRIGGER inputs_follow_message AFTER DELETE ON message
WHEN old.inputs > 0 AND NOT EXISTS (SELECT 1 FROM kept WHERE inputs_of = old.number) BEGIN
    DELETE FROM dormant WHERE number = old.number;
    DELETE FROM input WHERE message = old.number;
END;
CREATE TRIGGER inputs_follow_kept AFTER DELETE ON kept WHEN old.inputs_of IS NOT NULL BEGIN
    DELETE FROM input WHERE message = old.inputs_of;
END;

-- How messages ended for which others wait or waited: one row, however many those are.
CREATE TABLE outcome (
    number INTEGER PRIMARY KEY,
    predecessor TEXT NOT NULL UNIQUE,
    succeeded INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    frame BLOB NOT NULL
);
CREATE TRIGGER outcome_follows_inputs AFTER DELETE ON input
WHEN NOT EXISTS (SELECT 1 FROM input WHERE predecessor = old.predecessor) BEGIN
    DELETE FROM outcome WHERE predecessor = old.predecessor;
END;

-- What a message of state 3 waits for. Counting down `missing` leaves the message's own row alone.
CREATE TABLE dormant (
    number INTEGER PRIMARY KEY,
    missing INTEGER NOT NULL,                -- inputs without an outcome
    on_failure INTEGER NOT NULL,             -- the trigger
    run_at REAL NOT NULL,                    -- seconds since the epoch; 0 for at once
    delay REAL NOT NULL,                     -- seconds
    look_at REAL NOT NULL                    -- when to see whether a predecessor is nowhere
);
CREATE INDEX dormant_look ON dormant (look_at);

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
