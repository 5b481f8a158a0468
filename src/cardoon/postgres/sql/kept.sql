-- What people look at: depths, dead letters, quarantine.

-- What lies in the queues of subscribers is counted with their broadcast queue.
CREATE OR REPLACE FUNCTION depths(_now double precision) RETURNS TABLE (
    queue text, ready bigint, scheduled bigint, dormant bigint, leased bigint,
    oldest double precision, limited bigint, paused boolean, subscribers bigint
)
LANGUAGE sql STABLE AS $$
    WITH moment AS MATERIALIZED (SELECT _clock(_now) AS now),
    closed AS MATERIALIZED (
        SELECT bound.key FROM bound, moment
        WHERE (bound.gap > 0 AND bound.next_at > moment.now)
            OR (bound.most > 0 AND bound.most <= (
                SELECT count(*) FROM message WHERE limit_key = bound.key AND state = 2
            ))
    ),
    counted AS (
        SELECT
            coalesce(subscription.broadcast, message.queue) AS queue,
            message.due,
            message.state,
            message.state IN (1, 4) OR (message.state = 0 AND message.due <= moment.now) AS is_due,
            closed.key IS NOT NULL AS is_closed
        FROM moment CROSS JOIN message
        LEFT JOIN closed ON closed.key = message.limit_key
        LEFT JOIN subscription ON subscription.queue = message.queue
    ),
    live AS (
        SELECT broadcast AS queue, count(*) AS subscribers
        FROM subscription, moment WHERE expires_at > moment.now GROUP BY broadcast
    ),
    summed AS (
        SELECT
            counted.queue,
            count(*) FILTER (WHERE is_due AND NOT is_closed) AS ready,
            count(*) FILTER (WHERE state = 0 AND NOT is_due) AS scheduled,
            count(*) FILTER (WHERE state = 3) AS dormant,
            count(*) FILTER (WHERE state = 2) AS leased,
            min(due) FILTER (WHERE is_due AND NOT is_closed) AS first,
            count(*) FILTER (WHERE is_due AND is_closed) AS limited
        FROM counted GROUP BY counted.queue
    )
    SELECT
        names.queue,
        coalesce(summed.ready, 0), coalesce(summed.scheduled, 0), coalesce(summed.dormant, 0),
        coalesce(summed.leased, 0), CASE WHEN summed.first IS NOT NULL THEN greatest(0, moment.now - summed.first) END,
        coalesce(summed.limited, 0), paused.queue IS NOT NULL, coalesce(live.subscribers, 0)
    FROM moment CROSS JOIN (
        SELECT name AS queue FROM queue
        UNION SELECT queue FROM paused
        UNION SELECT queue FROM live
        UNION SELECT queue FROM summed
    ) AS names
    LEFT JOIN summed ON summed.queue = names.queue
    LEFT JOIN paused ON paused.queue = names.queue
    LEFT JOIN live ON live.queue = names.queue
    ORDER BY 1
$$;

-- Delete up to so many that wait in a queue, and of a broadcast queue in those behind it; return how many.
CREATE OR REPLACE FUNCTION purge(_now double precision, _queue text, _most integer) RETURNS integer
LANGUAGE plpgsql AS $$
BEGIN
    RETURN _delete_waiting(
        _clock(_now), _queue || ARRAY(SELECT queue FROM subscription WHERE broadcast = _queue), _most
    );
END
$$;

-- Those that are blocked before those that are ready, since it is the end of one of these that would let
-- them go.
CREATE OR REPLACE FUNCTION _delete_waiting(
    _now double precision, _queues text[], _most integer
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    doomed bigint[] := '{}';
    kind integer;
BEGIN
    FOREACH kind IN ARRAY ARRAY[3, 4, 1, 0] LOOP
        doomed := doomed || CASE kind
            WHEN 3 THEN ARRAY(
                SELECT number FROM message WHERE state = 3 AND queue = ANY (_queues)
                LIMIT _most - cardinality(doomed) FOR UPDATE SKIP LOCKED
            )
            WHEN 4 THEN ARRAY(
                SELECT number FROM message
                WHERE limit_key IS NOT NULL AND state = 4 AND queue = ANY (_queues)
                LIMIT _most - cardinality(doomed) FOR UPDATE SKIP LOCKED
            )
            WHEN 1 THEN ARRAY(
                SELECT number FROM message WHERE state = 1 AND queue = ANY (_queues)
                LIMIT _most - cardinality(doomed) FOR UPDATE SKIP LOCKED
            )
            ELSE ARRAY(
                SELECT number FROM message WHERE state = 0 AND queue = ANY (_queues)
                LIMIT _most - cardinality(doomed) FOR UPDATE SKIP LOCKED
            )
        END;
    END LOOP;
    PERFORM _let_go(_delete(doomed), _now);
    RETURN cardinality(doomed);
END
$$;

CREATE OR REPLACE FUNCTION kept(_place text, _after bigint, _most integer) RETURNS TABLE (
    number bigint, queue text, id text, reason text, detail text, kept_at double precision,
    frame bytea, attempt integer, crashes integer, retries integer
)
LANGUAGE sql STABLE AS $$
    SELECT number, queue, id, reason, detail, kept_at, frame, attempt, crashes, retries
    FROM kept
    WHERE place = _place AND number > _after
    ORDER BY number LIMIT _most
$$;

-- Put kept messages back; those whose id or unique key is in a queue again stay where they are. A dead
-- letter starts afresh. What was quarantined by mistake goes on where it was. A nonce was marked as done
-- when the message was put away, and may be claimed again, or it would be refused as a replay of itself. Its
-- mark stays, since one that was signed before the epoch is claimed only if it has one.
CREATE OR REPLACE FUNCTION restore(_now double precision, _place text, _numbers bigint[])
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    moment double precision := _clock(_now);
    was kept;
    new bigint;
    count integer := 0;
BEGIN
    FOR was IN
        SELECT kept.*
        FROM unnest(_numbers) WITH ORDINALITY AS asked (number, place)
        JOIN kept ON kept.number = asked.number
        WHERE kept.place = _place
        ORDER BY asked.place
    LOOP
        PERFORM FROM kept WHERE number = was.number FOR UPDATE;
        CONTINUE WHEN NOT FOUND;  -- somebody else was faster, or it was asked for twice
        INSERT INTO message (
            number, id, queue, priority, state, due, size, inputs, attempt, crashes, retries,
            unique_key, limit_key
        )
        VALUES (
            nextval('message_number'), was.id, was.queue, was.priority, 1, moment,
            octet_length(was.frame), (SELECT count(*) FROM input WHERE message = was.inputs_of),
            CASE _place WHEN 'dead' THEN 0 ELSE was.attempt END,
            CASE _place WHEN 'dead' THEN 0 ELSE was.crashes END,
            CASE _place WHEN 'dead' THEN 0 ELSE was.retries END,
            was.unique_key, was.limit_key
        )
        ON CONFLICT DO NOTHING
        RETURNING number INTO new;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO frame (number, frame) VALUES (new, was.frame);
        IF was.limit_key IS NOT NULL THEN
            INSERT INTO bound (key, most, gap) VALUES (was.limit_key, was.limit_most, was.limit_gap)
            ON CONFLICT (key) DO UPDATE
            SET most = excluded.most, gap = excluded.gap, expires_at = NULL
            WHERE bound.expires_at IS NOT NULL;
        END IF;
        UPDATE input SET message = new WHERE message = was.inputs_of;
        UPDATE replay SET receipt = new, attempt = 0, done = false
        WHERE session = was.session AND sequence = was.sequence;
        DELETE FROM kept WHERE number = was.number;
        count := count + 1;
    END LOOP;
    RETURN count;
END
$$;

-- Delete kept messages: these, or for NULL up to so many of a place.
CREATE OR REPLACE FUNCTION discard(_place text, _numbers bigint[], _most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    doomed bigint[] := ARRAY(
        SELECT number FROM kept
        WHERE place = _place AND (_numbers IS NULL OR number = ANY (_numbers))
        ORDER BY number LIMIT _most FOR UPDATE
    );
    waited bigint[];
BEGIN
    WITH gone AS (
        DELETE FROM kept WHERE number = ANY (doomed) RETURNING inputs_of
    )
    SELECT array_agg(inputs_of) FILTER (WHERE inputs_of IS NOT NULL) INTO waited FROM gone;
    IF waited IS NOT NULL THEN
        PERFORM _delete_inputs(waited);
    END IF;
    RETURN cardinality(doomed);
END
$$;

CREATE OR REPLACE FUNCTION quarantined() RETURNS TABLE (
    reason text, messages bigint, bytes bigint
)
LANGUAGE sql STABLE AS $$
    SELECT reason, count(*), sum(octet_length(frame))
    FROM kept WHERE place = 'quarantine' GROUP BY reason
$$;

-- Delete the oldest in the quarantine for a reason until at most so many and so large are left, but no more
-- than `_most` at a time; return how many, and how large they were.
CREATE OR REPLACE FUNCTION thin_out(_reason text, _messages bigint, _bytes bigint, _most integer)
RETURNS TABLE (gone integer, freed bigint)
LANGUAGE plpgsql AS $$
DECLARE
    doomed bigint[];
BEGIN
    SELECT array_agg(number), sum(size) INTO doomed, freed
    FROM (
        SELECT number, size
        FROM (
            SELECT
                number,
                octet_length(frame) AS size,
                count(*) OVER newest AS messages,
                sum(octet_length(frame)) OVER newest AS bytes
            FROM kept
            WHERE place = 'quarantine' AND reason = _reason
            WINDOW newest AS (ORDER BY number DESC)
        ) AS line
        WHERE messages > _messages OR bytes > _bytes
        ORDER BY number LIMIT _most
    ) AS oldest;
    gone := CASE WHEN doomed IS NULL THEN 0 ELSE discard('quarantine', doomed, _most) END;
    freed := coalesce(freed, 0);
    RETURN NEXT;
END
$$;

CREATE OR REPLACE FUNCTION quarantine(
    _now double precision, _queue text, _id text, _frame bytea, _reason text, _detail text
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO kept (
        place, queue, id, priority, attempt, crashes, retries, reason, detail, kept_at, frame
    )
    VALUES ('quarantine', _queue, _id, 0, 0, 0, 0, _reason, _detail, _clock(_now), _frame)
$$;

-- Where messages lie; the places are values of cardoon.lookup.Place, the later of two counts.
CREATE OR REPLACE FUNCTION find_places(_now double precision, _ids text[]) RETURNS TABLE (
    id text, place text
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT kept.id, kept.place FROM kept WHERE kept.id = ANY (_ids)
    UNION ALL
    SELECT
        message.id,
        CASE message.state
            WHEN 3 THEN 'dormant'
            WHEN 2 THEN 'leased'
            WHEN 0 THEN CASE WHEN message.due <= _clock(_now) THEN 'ready' ELSE 'scheduled' END
            ELSE 'ready'
        END
    FROM message WHERE message.id = ANY (_ids);
END
$$;
