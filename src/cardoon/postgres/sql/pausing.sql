-- Queues that rest, which need not be there. A queue behind a broadcast queue rests with that.

CREATE OR REPLACE FUNCTION pause_queues(_queues text[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO paused (queue)
    SELECT DISTINCT name FROM unnest(_queues) AS asked (name) ORDER BY name
    ON CONFLICT DO NOTHING
$$;

CREATE OR REPLACE FUNCTION resume_queues(_queues text[]) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM paused WHERE queue IN (
        SELECT queue FROM paused WHERE queue = ANY (_queues) ORDER BY queue FOR UPDATE
    )
$$;

CREATE OR REPLACE FUNCTION resting_queues() RETURNS TABLE (queue text)
LANGUAGE sql STABLE AS $$ SELECT paused.queue FROM paused $$;

-- Those of these queues that do not rest, in their order.
CREATE OR REPLACE FUNCTION _awake(_queues text[]) RETURNS text[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT asked.queue
        FROM unnest(_queues) WITH ORDINALITY AS asked (queue, place)
        WHERE NOT EXISTS (SELECT FROM paused WHERE paused.queue = asked.queue)
            AND NOT EXISTS (
                SELECT FROM subscription JOIN paused ON paused.queue = subscription.broadcast
                WHERE subscription.queue = asked.queue
            )
        ORDER BY asked.place
    );
END
$$;
