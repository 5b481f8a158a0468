-- Version 3: broadcast queues, and queues that rest.

-- The queues that get copies of what is sent to a broadcast queue. One whose time is over stays until
-- the last message is out of its queue.
CREATE TABLE subscription (
    queue TEXT PRIMARY KEY,
    broadcast TEXT NOT NULL,
    begun_at REAL NOT NULL,                  -- seconds of the host's monotonic clock
    expires_at REAL NOT NULL                 -- likewise
) WITHOUT ROWID;
CREATE INDEX subscription_broadcast ON subscription (broadcast, expires_at);
CREATE INDEX subscription_begin ON subscription (begun_at);
CREATE INDEX subscription_expiry ON subscription (expires_at);

-- The queues that rest, which need not be there.
CREATE TABLE paused (
    queue TEXT PRIMARY KEY
) WITHOUT ROWID;
