-- What is known of one message, for somebody who asks why it does not run.

-- Only of one that lies in a queue; `trace_kept` has the others. Those that have to let others pass hold
-- nobody up.
CREATE OR REPLACE FUNCTION trace(_now double precision, _id text) RETURNS TABLE (
    place text, queue text, frame bytea, priority integer, attempt integer, crashes integer, retries integer,
    due double precision, lease_left double precision, limit_key text, unique_key text, ahead bigint
)
LANGUAGE sql STABLE AS $$
    WITH moment AS MATERIALIZED (SELECT _clock(_now) AS now)
    SELECT
        CASE message.state
            WHEN 3 THEN 'dormant'
            WHEN 2 THEN 'leased'
            WHEN 0 THEN CASE WHEN message.due <= moment.now THEN 'ready' ELSE 'scheduled' END
            ELSE 'ready'
        END,
        message.queue, frame.frame, message.priority::integer, message.attempt, message.crashes, message.retries,
        message.due, message.lease_until - moment.now,
        coalesce(message.limit_key, ''), coalesce(message.unique_key, ''),
        (
            SELECT count(*) FROM message AS other
            WHERE other.state = 1 AND other.queue = message.queue AND other.limit_key IS NULL
                AND (
                    other.priority > message.priority
                    OR (other.priority = message.priority AND other.number < message.number)
                )
        ) + (
            SELECT count(*) FROM message AS other
            WHERE other.state = 0 AND other.queue = message.queue AND other.limit_key IS NULL
                AND other.due <= moment.now
                AND (
                    other.priority > message.priority
                    OR (other.priority = message.priority AND other.number < message.number)
                )
        )
    FROM moment
    CROSS JOIN message
    JOIN frame ON frame.number = message.number
    WHERE message.id = _id
$$;

-- Those that a dormant message still waits for, the first of them by name, each with how many there are.
CREATE OR REPLACE FUNCTION trace_missing(_id text, _most integer) RETURNS TABLE (
    predecessor text, count bigint
)
LANGUAGE sql STABLE AS $$
    SELECT input.predecessor, count(*) OVER ()
    FROM message
    JOIN input ON input.message = message.number
    LEFT JOIN outcome ON outcome.predecessor = input.predecessor
    WHERE message.id = _id AND message.state = 3 AND outcome.predecessor IS NULL
    GROUP BY input.predecessor
    ORDER BY min(input.position)
    LIMIT _most
$$;

-- The latest kept message with an id.
CREATE OR REPLACE FUNCTION trace_kept(_id text) RETURNS TABLE (
    place text, priority integer, limit_key text, unique_key text,
    number bigint, queue text, id text, reason text, detail text, kept_at double precision,
    frame bytea, attempt integer, crashes integer, retries integer
)
LANGUAGE sql STABLE AS $$
    SELECT
        kept.place, kept.priority::integer, coalesce(kept.limit_key, ''), coalesce(kept.unique_key, ''),
        kept.number, kept.queue, kept.id, kept.reason, kept.detail, kept.kept_at,
        kept.frame, kept.attempt, kept.crashes, kept.retries
    FROM kept
    WHERE kept.id = _id
    ORDER BY kept.number DESC LIMIT 1
$$;

-- Which of these nonces are done, in their order.
CREATE OR REPLACE FUNCTION nonces_done(_sessions bytea[], _sequences bigint[]) RETURNS TABLE (
    is_done boolean
)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(replay.done, false)
    FROM unnest(_sessions, _sequences) WITH ORDINALITY AS asked (session, sequence, place)
    LEFT JOIN replay ON replay.session = asked.session AND replay.sequence = asked.sequence
    ORDER BY asked.place
$$;
