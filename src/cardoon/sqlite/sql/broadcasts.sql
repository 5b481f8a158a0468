-- name: add
INSERT INTO broadcast (expires_at, frame) VALUES (:expires_at, :frame);

-- name: after
SELECT number, frame FROM broadcast WHERE number > :number AND expires_at > :now ORDER BY number;
