-- Version 2: messages that are unique, and limits on how many of a key are leased.

-- What makes a message the only one of its kind is its own row, so that no lock can outlive it.
ALTER TABLE message ADD COLUMN unique_key TEXT;
CREATE UNIQUE INDEX message_unique ON message (unique_key) WHERE unique_key IS NOT NULL;

-- Who was sent lately, for as long as that keeps others from being sent.
CREATE TABLE recent (
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL,                        -- of a message, which may have ended
    until REAL NOT NULL                      -- seconds since the epoch
) WITHOUT ROWID;
CREATE INDEX recent_until ON recent (until);

-- Whose turns a message takes part in. State 4 is blocked: due, and out of the way of all others
-- until its key has room. What is counted are rows of state 2; there is no counter.
ALTER TABLE message ADD COLUMN limit_key TEXT;
CREATE INDEX message_limit ON message (limit_key, state, queue, priority DESC, number)
WHERE limit_key IS NOT NULL;

-- What the latest send says of a key, for as long as messages of it are stored or its rate is not
-- yet forgotten.
CREATE TABLE bound (
    key TEXT PRIMARY KEY,
    most INTEGER NOT NULL,                   -- leased at a time; 0 for any number
    gap REAL NOT NULL,                       -- seconds between leases; 0 for none
    next_at REAL NOT NULL DEFAULT 0,         -- when the next may be leased; seconds since the epoch
    opens_at REAL,                           -- when to see who of the blocked may go; NULL if never
    expires_at REAL                          -- NULL while messages of the key are stored
) WITHOUT ROWID;
CREATE INDEX bound_opening ON bound (opens_at) WHERE opens_at IS NOT NULL;
CREATE INDEX bound_expiry ON bound (expires_at) WHERE expires_at IS NOT NULL;
-- One trigger for both, since most messages have neither and each trigger costs them something.
DROP TRIGGER inputs_follow_message;
CREATE TRIGGER inputs_and_bound_follow_message AFTER DELETE ON message
WHEN old.inputs > 0 OR old.limit_key IS NOT NULL BEGIN
    DELETE FROM dormant WHERE number = old.number;
    DELETE FROM input
    WHERE message = old.number AND NOT EXISTS (SELECT 1 FROM kept WHERE inputs_of = old.number);
    DELETE FROM bound
    WHERE key = old.limit_key AND next_at = 0
        AND NOT EXISTS (SELECT 1 FROM message WHERE limit_key = old.limit_key);
    UPDATE bound SET expires_at = next_at, opens_at = NULL
    WHERE key = old.limit_key
        AND NOT EXISTS (SELECT 1 FROM message WHERE limit_key = old.limit_key);
END;

ALTER TABLE kept ADD COLUMN unique_key TEXT;
ALTER TABLE kept ADD COLUMN limit_key TEXT;
ALTER TABLE kept ADD COLUMN limit_most INTEGER;
ALTER TABLE kept ADD COLUMN limit_gap REAL;
