-- Records, each with the number of times that it was written.

-- name: all
SELECT name, revision, frame FROM record WHERE kind = :kind;

-- name: count
SELECT count(*) FROM record WHERE kind = :kind;

-- name: make
INSERT INTO record (kind, name, revision, frame) VALUES (:kind, :name, 1, :frame)
ON CONFLICT DO NOTHING;

-- name: write
UPDATE record SET revision = revision + 1, frame = :frame
WHERE kind = :kind AND name = :name AND revision = :revision;

-- name: drop
DELETE FROM record WHERE kind = :kind AND name = :name AND revision = :revision;
