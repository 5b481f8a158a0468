-- Frames on channels. A channel outlives its frames for a while, so that its numbers go on.

-- name: forget
DELETE FROM channel WHERE expires_at <= :now;

-- name: number
INSERT INTO channel (name, newest, expires_at) VALUES (:channel, :count, :expires_at)
ON CONFLICT (name) DO UPDATE SET
    newest = newest + excluded.newest, expires_at = max(expires_at, excluded.expires_at)
RETURNING id, newest;

-- name: add
-- :rows [[offset, size], ...]  :first the first number  :frames joined
INSERT INTO post (channel, number, expires_at, frame)
SELECT
    :channel,
    :first + key,
    :expires_at,
    substr(:frames, json_extract(value, '$[0]'), json_extract(value, '$[1]'))
FROM json_each(:rows);

-- name: drop_oldest
DELETE FROM post WHERE channel = :channel AND number <= :last;

-- name: newest
SELECT coalesce(max(newest), 0) FROM channel WHERE name = :channel AND expires_at > :now;

-- name: after
-- No more bytes than :bytes, but the first frame in any case.
SELECT
    coalesce(json_group_array(json_array(number, length(frame))), '[]'),
    coalesce(CAST(group_concat(frame, '') AS BLOB), x'')
FROM (
    SELECT number, frame FROM (
        SELECT
            number, frame,
            sum(length(frame)) OVER (ORDER BY number) AS size,
            row_number() OVER (ORDER BY number) AS place
        FROM (
            SELECT post.number, post.frame
            FROM channel JOIN post ON post.channel = channel.id
            WHERE channel.name = :channel
                AND channel.expires_at > :now
                AND post.number > iif(:after > channel.newest, 0, :after)
                AND post.expires_at > :now
            ORDER BY post.number
            LIMIT :limit
        )
    )
    WHERE size <= :bytes OR place = 1
    ORDER BY number
);
