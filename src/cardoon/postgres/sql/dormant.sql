-- Messages that wait for others to end, and how those ended. A row of `dormant` and state 3 of its
-- message come and go together.

-- Have those wait that were inserted, and tell them what is known.
CREATE OR REPLACE FUNCTION _lay_down(
    _now double precision, _numbers bigint[], _run_at double precision[], _input_counts integer[],
    _on_failure boolean[], _delays double precision[],
    _input_of integer[], _positions integer[], _predecessors text[], _requests bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    told_numbers bigint[];
    told_succeeded boolean[];
    told_skipped boolean[];
BEGIN
    INSERT INTO dormant (number, missing, on_failure, run_at, delay, look_at)
    SELECT
        sent.number, sent.input_count, sent.on_failure, coalesce(sent.run_at, 0), sent.delay, _now + 10
    FROM unnest(_numbers, _run_at, _input_counts, _on_failure, _delays)
        AS sent (number, run_at, input_count, on_failure, delay)
    JOIN message ON message.number = sent.number
    WHERE sent.input_count > 0;
    INSERT INTO input (message, position, predecessor, request)
    SELECT message.number, given.position, given.predecessor, given.request
    FROM unnest(_input_of, _positions, _predecessors, _requests)
        AS given (place, position, predecessor, request)
    JOIN message ON message.number = _numbers[given.place];
    -- One that is about to end either sees these rows, or has ended before we look. Nobody else has
    -- seen what this transaction itself has sent.
    PERFORM FROM message
    WHERE id = ANY (_predecessors) AND xmin <> pg_current_xact_id()::xid
    ORDER BY number FOR KEY SHARE;
    SELECT array_agg(known.number), array_agg(known.succeeded), array_agg(known.skipped)
    INTO told_numbers, told_succeeded, told_skipped
    FROM (
        SELECT dormant.number, outcome.succeeded, outcome.skipped
        FROM unnest(_input_of, _predecessors) AS given (place, predecessor)
        JOIN dormant ON dormant.number = _numbers[given.place]
        JOIN outcome ON outcome.predecessor = given.predecessor
        ORDER BY outcome.predecessor FOR KEY SHARE OF outcome
    ) AS known;
    IF told_numbers IS NOT NULL THEN
        PERFORM _tell(_now, told_numbers, told_succeeded, told_skipped);
    END IF;
END
$$;

-- Tell dormant messages how one that each waits for has ended; return how many woke.
CREATE OR REPLACE FUNCTION _tell(
    _now double precision, _numbers bigint[], _succeeded boolean[], _skipped boolean[]
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    woken bigint[];
    closed bigint[];
    dropped bigint[];
    counted bigint[];
    arrived integer[];
BEGIN
    -- The last two of a chord meet here: the second reads what the first has written.
    PERFORM FROM dormant WHERE number = ANY (_numbers) ORDER BY number FOR UPDATE;
    WITH told AS (
        SELECT
            dormant.number, dormant.missing, dormant.on_failure,
            count(*)::integer AS arrivals,
            bool_or(NOT given.succeeded) AS has_failed,
            bool_or(given.succeeded OR given.skipped) AS has_no_cause
        FROM unnest(_numbers, _succeeded, _skipped) AS given (number, succeeded, skipped)
        JOIN dormant ON dormant.number = given.number
        GROUP BY dormant.number
    ),
    judged AS (
        SELECT
            number, arrivals,
            CASE
                WHEN on_failure AND has_no_cause THEN 'dropped'
                WHEN on_failure THEN 'woken'
                WHEN has_failed THEN 'closed'
                WHEN arrivals >= missing THEN 'woken'
                ELSE 'counted'
            END AS fate
        FROM told
    )
    SELECT
        array_agg(number) FILTER (WHERE fate = 'woken'),
        array_agg(number) FILTER (WHERE fate = 'closed'),
        array_agg(number) FILTER (WHERE fate = 'dropped'),
        array_agg(number) FILTER (WHERE fate = 'counted'),
        array_agg(arrivals) FILTER (WHERE fate = 'counted')
    INTO woken, closed, dropped, counted, arrived
    FROM judged;
    IF counted IS NOT NULL THEN
        UPDATE dormant SET missing = missing - told.arrivals
        FROM unnest(counted, arrived) AS told (number, arrivals)
        WHERE dormant.number = told.number;
    END IF;
    IF woken IS NOT NULL THEN
        UPDATE message SET
            state = (greatest(dormant.run_at, _now + dormant.delay) <= _now)::integer,
            due = greatest(dormant.run_at, _now + dormant.delay)
        FROM dormant
        WHERE dormant.number = ANY (woken) AND message.number = dormant.number;
        DELETE FROM dormant WHERE number = ANY (woken);
    END IF;
    IF closed IS NOT NULL THEN
        PERFORM _close(_now, closed);
    END IF;
    IF dropped IS NOT NULL THEN
        PERFORM _let_go(_delete(_find_doomed(dropped)), _now);
    END IF;
    RETURN coalesce(cardinality(woken), 0) + coalesce(cardinality(closed), 0);
END
$$;

-- Wake messages that cannot run, at once, for a worker to close them.
CREATE OR REPLACE FUNCTION _close(_now double precision, _numbers bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE message SET state = 1, due = _now WHERE number = ANY (_numbers);
    DELETE FROM dormant WHERE number = ANY (_numbers);
END
$$;

-- These messages, and all dormant ones that wait for one of them, directly or not.
CREATE OR REPLACE FUNCTION _find_doomed(_numbers bigint[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        WITH RECURSIVE doomed (number) AS (
            SELECT number FROM unnest(_numbers) AS dropped (number)
            UNION
            SELECT dormant.number
            FROM doomed
            JOIN message ON message.number = doomed.number
            JOIN input ON input.predecessor = message.id
            JOIN dormant ON dormant.number = input.message
        )
        SELECT array_agg(number ORDER BY number) FROM doomed
    );
END
$$;

-- Keep outcomes for those that wait for them, and wake who has waited for long enough. The first
-- outcome of an id counts.
CREATE OR REPLACE FUNCTION _hand_on(
    _now double precision, _ids text[], _succeeded boolean[], _skipped boolean[], _frames bytea[]
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    told_numbers bigint[];
    told_succeeded boolean[];
    told_skipped boolean[];
    wanted text[];
BEGIN
    SELECT
        array_agg(input.message), array_agg(arrival.succeeded), array_agg(arrival.skipped),
        array_agg(DISTINCT arrival.id)
    INTO told_numbers, told_succeeded, told_skipped, wanted
    FROM unnest(_ids, _succeeded, _skipped) AS arrival (id, succeeded, skipped)
    JOIN input ON input.predecessor = arrival.id
    WHERE NOT EXISTS (SELECT FROM outcome WHERE outcome.predecessor = arrival.id);
    IF wanted IS NULL THEN
        RETURN 0;
    END IF;
    -- What nobody waits for after all is deleted with those that are dropped.
    INSERT INTO outcome (predecessor, succeeded, skipped, frame)
    SELECT arrival.id, arrival.succeeded, arrival.skipped, arrival.frame
    FROM unnest(_ids, _succeeded, _skipped, _frames) AS arrival (id, succeeded, skipped, frame)
    WHERE arrival.id = ANY (wanted)
    ORDER BY arrival.id;
    RETURN _tell(_now, told_numbers, told_succeeded, told_skipped);
END
$$;

-- What messages have waited for, in order; a size of NULL says that there is no outcome.
CREATE OR REPLACE FUNCTION inputs(_numbers bigint[]) RETURNS TABLE (
    message bigint, predecessor text, request bytea, size integer
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT input.message, input.predecessor, input.request, octet_length(outcome.frame)
    FROM unnest(_numbers) AS asked (number)
    JOIN input ON input.message = asked.number
    LEFT JOIN outcome ON outcome.predecessor = input.predecessor
    ORDER BY input.message, input.position;
END
$$;

CREATE OR REPLACE FUNCTION outcome_frames(_predecessors text[]) RETURNS TABLE (
    predecessor text, frame bytea
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT outcome.predecessor, outcome.frame FROM outcome WHERE outcome.predecessor = ANY (_predecessors);
END
$$;

-- Wake dormant messages that wait for one that is nowhere; look at the others again later.
CREATE OR REPLACE FUNCTION _wake_strays(_now double precision) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    looked_at bigint[] := ARRAY(
        SELECT number FROM dormant
        WHERE look_at <= _now
        ORDER BY look_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    );
    strays bigint[];
BEGIN
    IF cardinality(looked_at) = 0 THEN
        RETURN 0;
    END IF;
    strays := ARRAY(
        SELECT asked.number
        FROM unnest(looked_at) AS asked (number)
        WHERE EXISTS (
            SELECT FROM input
            WHERE input.message = asked.number
                AND NOT EXISTS (
                    SELECT FROM outcome WHERE outcome.predecessor = input.predecessor
                )
                AND NOT EXISTS (SELECT FROM message WHERE message.id = input.predecessor)
                AND NOT EXISTS (SELECT FROM kept WHERE kept.id = input.predecessor)
        )
    );
    UPDATE dormant SET look_at = _now + 50 WHERE number = ANY (looked_at);
    PERFORM _close(_now, strays);
    RETURN cardinality(strays);
END
$$;
