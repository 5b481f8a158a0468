-- Version 5: frames on channels, and records.

-- A channel is forgotten, with what is left of it, some time after its last frame has expired.
CREATE TABLE channel (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    newest INTEGER NOT NULL,                 -- the number of its newest frame
    expires_at REAL NOT NULL                 -- seconds since the epoch
);
CREATE INDEX channel_expiry ON channel (expires_at);

CREATE TABLE post (
    channel INTEGER NOT NULL,
    number INTEGER NOT NULL,
    expires_at REAL NOT NULL,                -- seconds since the epoch
    frame BLOB NOT NULL
);
CREATE UNIQUE INDEX post_number ON post (channel, number);
CREATE INDEX post_expiry ON post (expires_at);
CREATE TRIGGER posts_follow_channel AFTER DELETE ON channel BEGIN
    DELETE FROM post WHERE channel = old.id;
END;

CREATE TABLE record (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    frame BLOB NOT NULL
);
CREATE UNIQUE INDEX record_name ON record (kind, name);
