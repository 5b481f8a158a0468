-- Functions whose names begin with `_` are called by others only. Those take locks in this order, and of
-- each kind in the order of their keys: messages, then dormant rows, then bounds.

CREATE OR REPLACE FUNCTION schema_version() RETURNS integer
LANGUAGE sql STABLE AS 'SELECT value FROM schema_version';

-- The time that a caller says, which is a test's, or the server's.
CREATE OR REPLACE FUNCTION _clock(_now double precision) RETURNS double precision
LANGUAGE sql VOLATILE AS 'SELECT coalesce(_now, extract(epoch FROM clock_timestamp())::double precision)';

-- Do not wait for the disk at the end of this transaction: what a crash of the server takes back of it is
-- done again. Not for claims: the number of an attempt must never be given twice.
CREATE OR REPLACE FUNCTION _hurry() RETURNS void
LANGUAGE sql AS $$ SELECT set_config('synchronous_commit', 'off', true) $$;

CREATE OR REPLACE FUNCTION declare_queues(_queues text[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO queue (name)
    SELECT DISTINCT name FROM unnest(_queues) AS asked (name) ORDER BY name
    ON CONFLICT DO NOTHING
$$;

-- Delete messages with all that belongs to them, but not the inputs of those that are kept; return the
-- keys that may have room now.
CREATE OR REPLACE FUNCTION _delete(_numbers bigint[]) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    waited bigint[];
    freed text[];
BEGIN
    WITH gone AS (
        DELETE FROM message WHERE number = ANY (_numbers) RETURNING number, inputs, limit_key
    )
    SELECT
        array_agg(number) FILTER (WHERE inputs > 0),
        array_agg(DISTINCT limit_key) FILTER (WHERE limit_key IS NOT NULL)
    INTO waited, freed
    FROM gone;
    DELETE FROM frame WHERE number = ANY (_numbers);
    IF waited IS NOT NULL THEN
        DELETE FROM dormant WHERE number = ANY (waited);
        PERFORM _delete_inputs(ARRAY(
            SELECT number FROM unnest(waited) AS gone (number)
            WHERE NOT EXISTS (SELECT FROM kept WHERE inputs_of = gone.number)
        ));
    END IF;
    RETURN freed;
END
$$;

-- And the outcomes that nobody else waits or waited for.
CREATE OR REPLACE FUNCTION _delete_inputs(_numbers bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    names text[];
BEGIN
    WITH gone AS (
        DELETE FROM input WHERE message = ANY (_numbers) RETURNING predecessor
    )
    SELECT array_agg(DISTINCT predecessor) INTO names FROM gone;
    IF names IS NULL THEN
        RETURN;
    END IF;
    -- First the locks: whoever has just begun to wait holds them, and is to be seen by what follows.
    PERFORM FROM outcome WHERE predecessor = ANY (names) ORDER BY predecessor FOR UPDATE;
    DELETE FROM outcome
    WHERE predecessor = ANY (names)
        AND NOT EXISTS (SELECT FROM input WHERE input.predecessor = outcome.predecessor);
END
$$;
