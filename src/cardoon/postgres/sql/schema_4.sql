-- Version 4: frames on channels, and records.

-- What is posted may be lost in a crash, and so is not written twice. A channel is forgotten, with what is left of
-- it, some time after its last frame has expired.
CREATE UNLOGGED TABLE IF NOT EXISTS channel (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    newest bigint NOT NULL,                  -- the number of its newest frame
    expires_at double precision NOT NULL     -- seconds since the epoch
);
CREATE INDEX IF NOT EXISTS channel_expiry ON channel (expires_at);

CREATE UNLOGGED TABLE IF NOT EXISTS post (
    channel bigint NOT NULL REFERENCES channel ON DELETE CASCADE,
    number bigint NOT NULL,
    expires_at double precision NOT NULL,    -- seconds since the epoch
    frame bytea NOT NULL,
    PRIMARY KEY (channel, number)
);
CREATE INDEX IF NOT EXISTS post_expiry ON post (expires_at);

CREATE TABLE IF NOT EXISTS record (
    kind text NOT NULL,
    name text NOT NULL,
    revision bigint NOT NULL,
    token bigint NOT NULL,                   -- of the call that wrote it, which may be made again
    frame bytea NOT NULL,
    PRIMARY KEY (kind, name)
);
