-- Who gets copies of what is sent to broadcast queues, and what is left of them at the end. Whoever locks
-- a subscription against those who send does so last of all, and waits for nobody.

-- Begin or renew; for each whether it was there. Nothing is changed, and one row names the queue, where
-- a broadcast queue would have more than `_most`.
CREATE OR REPLACE FUNCTION subscribe(
    _now double precision, _broadcasts text[], _queues text[], _seconds double precision,
    _most integer
) RETURNS TABLE (is_there boolean, crowded text)
LANGUAGE plpgsql AS $$
DECLARE
    known boolean[] := _known(_clock(_now), _broadcasts, _queues);
BEGIN
    IF NOT true = ALL (known) THEN
        -- Who begins is counted one after the other; who renews takes nobody's place.
        PERFORM _lock_keys(_broadcasts);
        known := _known(_clock(_now), _broadcasts, _queues);
        crowded := _find_crowded(_clock(_now), _broadcasts, _queues, _most);
        IF crowded IS NOT NULL THEN
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    INSERT INTO subscription (queue, broadcast, expires_at)
    SELECT DISTINCT ON (asked.queue) asked.queue, asked.broadcast, _clock(_now) + _seconds
    FROM unnest(_broadcasts, _queues) WITH ORDINALITY AS asked (broadcast, queue, place)
    ORDER BY asked.queue, asked.place DESC
    ON CONFLICT (queue) DO UPDATE
    SET broadcast = excluded.broadcast, expires_at = excluded.expires_at;
    RETURN QUERY SELECT found.is_there, NULL::text FROM unnest(known) AS found (is_there);
END
$$;

-- Not by EXISTS, which on a plan for few rows would go through all whose time is not over.
CREATE OR REPLACE FUNCTION _known(
    _now double precision, _broadcasts text[], _queues text[]
) RETURNS boolean[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT coalesce(found.broadcast = asked.broadcast AND found.expires_at > _now, false)
        FROM unnest(_broadcasts, _queues) WITH ORDINALITY AS asked (broadcast, queue, place)
        LEFT JOIN subscription AS found ON found.queue = asked.queue
        ORDER BY asked.place
    );
END
$$;

-- One of these broadcast queues that would have too many subscribers.
CREATE OR REPLACE FUNCTION _find_crowded(
    _now double precision, _broadcasts text[], _queues text[], _most integer
) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT asked.broadcast
        FROM (
            SELECT broadcast, count(DISTINCT queue) AS count
            FROM unnest(_broadcasts, _queues) AS one (broadcast, queue)
            GROUP BY broadcast
        ) AS asked
        WHERE _most < asked.count + (
            SELECT count(*) FROM subscription
            WHERE subscription.broadcast = asked.broadcast AND subscription.expires_at > _now
                AND subscription.queue NOT IN (SELECT queue FROM unnest(_queues) AS one (queue))
        )
        ORDER BY asked.broadcast LIMIT 1
    );
END
$$;

-- Store a copy of each broadcast for each queue that is subscribed at this moment, but none whose id is
-- stored, or is that of a loan that a later completion ends. The lock keeps a subscription from being
-- forgotten before these copies can be seen, and is in the way of nothing else.
CREATE OR REPLACE FUNCTION _spread(
    _now double precision, _wanted boolean[], _ids text[], _queues text[], _priorities integer[],
    _run_at double precision[], _frames bytea[],
    _sent_by integer[], _held integer[], _loans text[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    numbers bigint[];
    ids text[];
    lines text[];
    places integer[];
BEGIN
    SELECT
        array_agg(copy.number), array_agg(copy.id), array_agg(copy.queue), array_agg(copy.place)
    INTO numbers, ids, lines, places
    FROM (
        SELECT
            nextval('message_number') AS number, sent.id || '>' || live.queue AS id, live.queue,
            sent.place::integer AS place
        FROM unnest(_wanted, _ids, _queues) WITH ORDINALITY AS sent (wanted, id, queue, place)
        CROSS JOIN LATERAL (
            SELECT queue FROM subscription
            WHERE broadcast = sent.queue AND expires_at > _now
            FOR KEY SHARE
        ) AS live
        WHERE sent.wanted
    ) AS copy
    WHERE NOT EXISTS (
        SELECT FROM unnest(_loans) WITH ORDINALITY AS loan (id, place)
        WHERE loan.id = copy.id AND loan.place > _sent_by[copy.place]
            AND loan.place = ANY (_held)
    );
    IF numbers IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO message (number, id, queue, priority, state, due, size)
    SELECT
        copy.number, copy.id, copy.queue, _priorities[copy.place],
        CASE WHEN _run_at[copy.place] > _now THEN 0 ELSE 1 END,
        coalesce(_run_at[copy.place], _now), octet_length(_frames[copy.place])
    FROM unnest(numbers, ids, lines, places) AS copy (number, id, queue, place)
    ORDER BY copy.id, copy.number
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO frame (number, frame)
    SELECT copy.number, _frames[copy.place]
    FROM unnest(numbers, places) AS copy (number, place)
    WHERE EXISTS (SELECT FROM message WHERE message.number = copy.number);
END
$$;

-- End subscriptions; return the queues whose that was, for `delete_copies`.
CREATE OR REPLACE FUNCTION unsubscribe(_broadcasts text[], _queues text[]) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    UPDATE subscription SET expires_at = '-infinity'
    WHERE queue IN (
        SELECT subscription.queue
        FROM unnest(_broadcasts, _queues) AS asked (broadcast, queue)
        JOIN subscription
            ON subscription.queue = asked.queue AND subscription.broadcast = asked.broadcast
        ORDER BY subscription.queue FOR NO KEY UPDATE OF subscription
    )
    RETURNING queue;
END
$$;

-- Delete up to so many that wait in those of these queues whose subscription is over, and forget the
-- subscriptions of those that are empty; return how many.
CREATE OR REPLACE FUNCTION delete_copies(
    _now double precision, _queues text[], _most integer
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    moment double precision := _clock(_now);
    -- Who subscribes one of these again waits for the end of this.
    ended text[] := ARRAY(
        SELECT queue FROM subscription
        WHERE queue = ANY (_queues) AND expires_at <= moment
        ORDER BY queue FOR NO KEY UPDATE
    );
    count integer := _delete_waiting(moment, ended, _most);
BEGIN
    IF count < _most THEN
        PERFORM _forget(ended);
    END IF;
    RETURN count;
END
$$;

-- Not where a message is left, nor while somebody is about to store one.
CREATE OR REPLACE FUNCTION _forget(_queues text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    -- First the locks: what those who had them have stored is to be seen by what follows.
    idle text[] := ARRAY(
        SELECT queue FROM subscription WHERE queue = ANY (_queues) FOR UPDATE SKIP LOCKED
    );
    used text[] := ARRAY(
        SELECT queue FROM message WHERE state = 0 AND queue = ANY (idle)
        UNION
        SELECT queue FROM message WHERE state = 1 AND queue = ANY (idle)
        UNION
        SELECT queue FROM message WHERE state = 2 AND lease_until > 0 AND queue = ANY (idle)
        UNION
        SELECT queue FROM message WHERE state = 3 AND queue = ANY (idle)
        UNION
        SELECT queue FROM message
        WHERE limit_key IS NOT NULL AND state = 4 AND queue = ANY (idle)
    );
BEGIN
    DELETE FROM subscription WHERE queue = ANY (idle) AND queue <> ALL (used);
END
$$;
