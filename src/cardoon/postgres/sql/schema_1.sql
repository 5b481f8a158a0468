-- Version 1: tables. Names are found by the search path that `cardoon db upgrade` sets. Times are
-- seconds since the epoch, by the server's clock. Nobody but the owner has rights on tables; all that
-- drivers do, they do by the functions in the other files.

CREATE TABLE schema_version (
    value integer NOT NULL
);

CREATE TABLE queue (
    name text PRIMARY KEY
);

-- Numbers are never used twice, so that a number and an attempt together name one loan for all time.
CREATE SEQUENCE message_number;

-- Frames lie in a table of their own: a claim writes the row of the message anew, and that is short.
CREATE TABLE message (
    number bigint PRIMARY KEY,
    id text NOT NULL UNIQUE,
    queue text NOT NULL,
    priority smallint NOT NULL,
    state smallint NOT NULL,                 -- 0 scheduled, 1 ready, 2 leased, 3 dormant, 4 blocked
    due double precision NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    retries integer NOT NULL DEFAULT 0,
    size integer NOT NULL,                   -- of the frame, in bytes
    inputs integer NOT NULL DEFAULT 0,       -- how many rows of `input` are its own
    lease_until double precision,
    claim bigint,                            -- which call of `claim` leased it
    unique_key text,
    limit_key text
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.5,
    vacuum_truncate = off
);
CREATE INDEX message_scheduled ON message (queue, due) WHERE state = 0;
CREATE INDEX message_ready ON message (queue, priority DESC, number) WHERE state = 1;
CREATE INDEX message_leased ON message (lease_until) WHERE state = 2;
CREATE INDEX message_dormant ON message (queue) WHERE state = 3;
-- What makes a message the only one of its kind is its own row, so that no lock can outlive it.
CREATE UNIQUE INDEX message_unique ON message (unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX message_limit ON message (limit_key, state, queue, priority DESC, number)
WHERE limit_key IS NOT NULL;

CREATE TABLE frame (
    number bigint PRIMARY KEY,
    frame bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);
ALTER TABLE frame ALTER COLUMN frame SET STORAGE EXTERNAL;  -- what can be compressed, was

-- Dead letters and the quarantine.
CREATE TABLE kept (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    place text NOT NULL,                     -- a value of cardoon.broker.Kept
    queue text NOT NULL,
    id text NOT NULL,
    priority smallint NOT NULL,
    attempt integer NOT NULL,
    crashes integer NOT NULL,
    retries integer NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    kept_at double precision NOT NULL,
    session bytea,                           -- the nonce that was marked as done with it
    sequence bigint,
    inputs_of bigint,                        -- the number of the message, if it has inputs
    unique_key text,
    limit_key text,
    limit_most integer,
    limit_gap double precision,
    frame bytea NOT NULL
);
ALTER TABLE kept ALTER COLUMN frame SET STORAGE EXTERNAL;
CREATE INDEX kept_place ON kept (place, number);
CREATE INDEX kept_id ON kept (id);
CREATE INDEX kept_inputs ON kept (inputs_of) WHERE inputs_of IS NOT NULL;

-- What a message waits for, or did, for as long as it is stored or kept; by the number that it had.
CREATE TABLE input (
    message bigint NOT NULL,
    position integer NOT NULL,
    predecessor text NOT NULL,               -- the id of a message
    request bytea NOT NULL,
    PRIMARY KEY (message, position)
);
CREATE INDEX input_predecessor ON input (predecessor);

-- How messages ended for which others wait or waited: one row, however many those are.
CREATE TABLE outcome (
    predecessor text PRIMARY KEY,
    succeeded boolean NOT NULL,
    skipped boolean NOT NULL,
    frame bytea NOT NULL
);
ALTER TABLE outcome ALTER COLUMN frame SET STORAGE EXTERNAL;

-- What a message of state 3 waits for. The lock on its row is what those who tell it take turns by.
CREATE TABLE dormant (
    number bigint PRIMARY KEY,
    missing integer NOT NULL,                -- inputs without an outcome
    on_failure boolean NOT NULL,             -- the trigger
    run_at double precision NOT NULL,        -- 0 for at once
    delay double precision NOT NULL,         -- seconds
    look_at double precision NOT NULL        -- when to see whether a predecessor is nowhere
) WITH (fillfactor = 70);
CREATE INDEX dormant_look ON dormant (look_at);

-- Who was sent lately, for as long as that keeps others from being sent.
CREATE TABLE recent (
    key text PRIMARY KEY,
    id text NOT NULL,                        -- of a message, which may have ended
    until double precision NOT NULL
);
CREATE INDEX recent_until ON recent (until);

-- What the latest send says of a key, for as long as messages of it are stored or its rate is not yet
-- forgotten. Whoever takes or frees a place of the key holds the lock on its row.
CREATE TABLE bound (
    key text PRIMARY KEY,
    most integer NOT NULL,                   -- leased at a time; 0 for any number
    gap double precision NOT NULL,           -- seconds between leases; 0 for none
    next_at double precision NOT NULL DEFAULT 0,  -- when the next may be leased
    opens_at double precision,               -- when to see who of the blocked may go; NULL if never
    expires_at double precision              -- NULL while messages of the key are stored
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX bound_opening ON bound (opens_at) WHERE opens_at IS NOT NULL;
CREATE INDEX bound_expiry ON bound (expires_at) WHERE expires_at IS NOT NULL;

-- Transactions end in another order than they begin, so no number tells what is new; but what was
-- written by a transaction older than every one that still ran at the last look has been seen.
CREATE TABLE result (
    task_id text PRIMARY KEY,
    final boolean NOT NULL,
    expires_at double precision,             -- NULL for never
    written_by bigint NOT NULL,              -- a transaction
    frame bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE result ALTER COLUMN frame SET STORAGE EXTERNAL;
CREATE INDEX result_expiry ON result (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX result_news ON result (written_by) WHERE final;

-- The delivery that claimed a nonce last, and whether the message was carried out to its end.
CREATE TABLE replay (
    session bytea NOT NULL,
    sequence bigint NOT NULL,
    receipt bigint,                          -- a message's number; NULL when never claimed
    attempt integer NOT NULL,
    done boolean NOT NULL,
    expires_at double precision NOT NULL,
    PRIMARY KEY (session, sequence)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX replay_expiry ON replay (expires_at);

-- The queues that get copies of what is sent to a broadcast queue. One whose time is over stays until
-- the last message is out of its queue.
CREATE TABLE subscription (
    queue text PRIMARY KEY,
    broadcast text NOT NULL,
    expires_at double precision NOT NULL
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX subscription_broadcast ON subscription (broadcast, queue);
CREATE INDEX subscription_expiry ON subscription (expires_at);

-- The queues that rest, which need not be there.
CREATE TABLE paused (
    queue text PRIMARY KEY
);

CREATE TABLE broadcast (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    expires_at double precision NOT NULL,
    frame bytea NOT NULL
);
CREATE INDEX broadcast_expiry ON broadcast (expires_at);
