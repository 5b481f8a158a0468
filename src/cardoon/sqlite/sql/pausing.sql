-- Queues that rest. A queue behind a broadcast queue rests with that.

-- name: pause
INSERT INTO paused (queue) SELECT value FROM json_each(:queues) WHERE true ON CONFLICT DO NOTHING;

-- name: resume
DELETE FROM paused WHERE queue IN (SELECT value FROM json_each(:queues));

-- name: all
SELECT queue FROM paused;
