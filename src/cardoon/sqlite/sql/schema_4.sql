-- Version 4: since when replay marks reach back, and how full the quarantine is.

-- The epoch is the mark of session x'', which no message has: `receipt` is when it began, in seconds since the
-- epoch. It lies among the marks, so that whatever takes all of these takes it along. What was there before
-- this version has always remembered; the mark of a new file is made with it.
INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
SELECT x'', 0, 0.0, 0, 0, 9e999 FROM counter WHERE value > 0
ON CONFLICT DO NOTHING;

CREATE INDEX kept_reason ON kept (reason, number) WHERE place = 'quarantine';

CREATE TABLE quarantined (
    reason TEXT PRIMARY KEY,
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL                   -- of their frames
) WITHOUT ROWID;
INSERT INTO quarantined
SELECT reason, count(*), sum(length(frame)) FROM kept WHERE place = 'quarantine' GROUP BY reason;
CREATE TRIGGER count_quarantined AFTER INSERT ON kept WHEN new.place = 'quarantine' BEGIN
    INSERT INTO quarantined VALUES (new.reason, 1, length(new.frame))
    ON CONFLICT (reason) DO UPDATE SET messages = messages + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER count_released AFTER DELETE ON kept WHEN old.place = 'quarantine' BEGIN
    UPDATE quarantined SET messages = messages - 1, bytes = bytes - length(old.frame)
    WHERE reason = old.reason;
    DELETE FROM quarantined WHERE reason = old.reason AND messages = 0;
END;
