-- Frames on channels. Who posts locks the channel, so that numbers are in the order of commits: who has read one
-- asks for later ones only.

CREATE OR REPLACE FUNCTION post(
    _now double precision, _channel text, _frames bytea[], _expires_at double precision, _keep bigint,
    _remembered double precision, _most double precision
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    moment double precision := _clock(_now);
    until double precision := least(_expires_at, moment + _most);
    place bigint;
    last bigint;
BEGIN
    DELETE FROM channel WHERE name = _channel AND expires_at <= moment;
    INSERT INTO channel (name, newest, expires_at)
    VALUES (_channel, cardinality(_frames), greatest(moment, until) + _remembered)
    ON CONFLICT (name) DO UPDATE SET
        newest = channel.newest + excluded.newest,
        expires_at = greatest(channel.expires_at, excluded.expires_at)
    RETURNING id, newest INTO place, last;
    INSERT INTO post (channel, number, expires_at, frame)
    SELECT place, last - cardinality(_frames) + sent.number, until, sent.frame
    FROM unnest(_frames) WITH ORDINALITY AS sent (frame, number);
    DELETE FROM post WHERE channel = place AND number <= last - _keep;
END
$$;

-- For those who may tell what happens, and answer nobody.
CREATE OR REPLACE FUNCTION post_event(
    _now double precision, _frames bytea[], _expires_at double precision, _keep bigint,
    _remembered double precision, _most double precision
) RETURNS void
LANGUAGE sql AS $$ SELECT post(_now, 'events', _frames, _expires_at, _keep, _remembered, _most) $$;

-- No more bytes than so many, but the first frame in any case.
CREATE OR REPLACE FUNCTION posted(
    _now double precision, _channel text, _after bigint, _limit integer, _bytes bigint
) RETURNS TABLE (number bigint, frame bytea)
LANGUAGE sql STABLE AS $$
    WITH moment AS MATERIALIZED (SELECT _clock(_now) AS now),
    found AS MATERIALIZED (
        SELECT post.number, post.frame, octet_length(post.frame) AS size
        FROM moment CROSS JOIN channel JOIN post ON post.channel = channel.id
        WHERE channel.name = _channel
            AND channel.expires_at > moment.now
            AND post.number > CASE WHEN _after > channel.newest THEN 0 ELSE _after END
            AND post.expires_at > moment.now
        ORDER BY post.number
        LIMIT _limit
    ),
    summed AS (
        SELECT found.number, found.frame,
            sum(size) OVER earlier AS sum, row_number() OVER earlier AS place
        FROM found WINDOW earlier AS (ORDER BY found.number)
    )
    SELECT summed.number, summed.frame FROM summed WHERE sum <= _bytes OR place = 1 ORDER BY 1
$$;

CREATE OR REPLACE FUNCTION newest_post(_now double precision, _channel text) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(newest), 0) FROM channel WHERE name = _channel AND expires_at > _clock(_now)
$$;

CREATE OR REPLACE FUNCTION _forget_posts(_now double precision, _most integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM post WHERE (channel, number) IN (
        SELECT channel, number FROM post WHERE expires_at <= _now
        ORDER BY expires_at LIMIT _most FOR UPDATE SKIP LOCKED
    );
    DELETE FROM channel WHERE id IN (
        SELECT id FROM channel WHERE expires_at <= _now
        ORDER BY expires_at LIMIT _most FOR UPDATE SKIP LOCKED
    );
END
$$;
