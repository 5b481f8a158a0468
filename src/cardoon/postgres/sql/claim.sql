-- Lending.

-- Lease due messages, queue by queue, the most urgent of each first. Where there are none, one row with
-- nothing but the seconds until there may be: NULL for nobody knows. `is_more` asks for another call at
-- once.
CREATE OR REPLACE FUNCTION claim(
    _now double precision, _queues text[], _most integer, _lease double precision,
    _max_bytes bigint, _claim bigint
) RETURNS TABLE (
    number bigint, queue text, id text, frame bytea, attempt integer, crashes integer,
    retries integer, priority integer, inputs integer, pause double precision, is_more boolean
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment double precision := _clock(_now);
    line text;
    wanted integer;
    room bigint := _max_bytes;
    taken bigint[] := '{}';
    fresh bigint[];
    closed bigint[];
    blocked integer := 0;
    keys text[] := '{}';          -- whose bounds are locked
    mosts integer[] := '{}';
    gaps double precision[] := '{}';
    nexts double precision[] := '{}';
    runnings bigint[] := '{}';
    entered boolean[] := '{}';
    new_keys text[];
    found_numbers bigint[];
    found_sizes bigint[];
    found_keys text[];
    is_full boolean := false;
    is_cut_short boolean := false;
    place integer;
    known record;
BEGIN
    -- In a transaction of its own, so that no claim locks bounds twice over.
    IF EXISTS (SELECT FROM bound WHERE opens_at <= moment) AND _let_go_on_time(moment) THEN
        RETURN QUERY SELECT
            NULL::bigint, NULL::text, NULL::text, NULL::bytea, 0, 0, 0, 0, 0, NULL::double precision, true;
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM paused) THEN
        _queues := _awake(_queues);
    END IF;
    <<queues>>
    FOREACH line IN ARRAY _queues LOOP
        wanted := _most - cardinality(taken);
        EXIT WHEN wanted <= 0 OR is_full;
        UPDATE message SET state = 1
        WHERE number IN (
            SELECT number FROM message
            WHERE state = 0 AND queue = line AND due <= moment
            ORDER BY due LIMIT greatest(wanted, 1000) FOR NO KEY UPDATE SKIP LOCKED
        );
        LOOP
            SELECT array_agg(first.number), array_agg(first.size), array_agg(first.limit_key)
            INTO found_numbers, found_sizes, found_keys
            FROM (
                SELECT number, limit_key, size::bigint + CASE inputs WHEN 0 THEN 0 ELSE (
                    SELECT coalesce(sum(octet_length(outcome.frame)), 0)
                    FROM input JOIN outcome ON outcome.predecessor = input.predecessor
                    WHERE input.message = message.number
                ) END AS size
                FROM message
                WHERE state = 1 AND queue = line
                ORDER BY priority DESC, number LIMIT wanted FOR NO KEY UPDATE SKIP LOCKED
            ) AS first;
            EXIT WHEN found_numbers IS NULL;
            fresh := '{}';
            closed := '{}';
            new_keys := ARRAY(
                SELECT DISTINCT key FROM unnest(found_keys) AS found (key)
                WHERE key IS NOT NULL AND key <> ALL (keys)
                ORDER BY key
            );
            IF cardinality(new_keys) > 0 THEN
                IF cardinality(keys) = 0 THEN
                    PERFORM FROM bound WHERE key = ANY (new_keys) ORDER BY key FOR UPDATE;
                ELSE
                    -- Waiting would be out of order. Who holds one of these is soon done.
                    new_keys := ARRAY(
                        SELECT key FROM bound WHERE key = ANY (new_keys)
                        ORDER BY key FOR UPDATE SKIP LOCKED
                    );
                END IF;
                IF _now IS NULL THEN
                    moment := _clock(NULL);
                END IF;
                FOR known IN
                    SELECT bound.*, CASE WHEN bound.most > 0 THEN (
                        SELECT count(*) FROM message WHERE limit_key = bound.key AND state = 2
                    ) ELSE 0 END AS running
                    FROM bound WHERE key = ANY (new_keys)
                LOOP
                    keys := keys || known.key;
                    mosts := mosts || known.most;
                    gaps := gaps || known.gap;
                    nexts := nexts || known.next_at;
                    runnings := runnings || known.running;
                    entered := entered || false;
                END LOOP;
            END IF;
            FOR known IN
                SELECT * FROM unnest(found_numbers, found_sizes, found_keys) AS found (number, size, key)
            LOOP
                EXIT WHEN cardinality(taken) + cardinality(fresh) >= _most;
                IF known.size > room AND cardinality(taken) + cardinality(fresh) > 0 THEN
                    is_full := true;
                    EXIT;
                END IF;
                IF known.key IS NOT NULL THEN
                    place := array_position(keys, known.key);
                    IF place IS NULL AND EXISTS (SELECT FROM bound WHERE key = known.key) THEN
                        is_cut_short := true;
                        EXIT;
                    END IF;
                    IF (gaps[place] > 0 AND nexts[place] > moment)
                        OR (mosts[place] > 0 AND runnings[place] >= mosts[place])
                    THEN
                        closed := closed || known.number;
                        CONTINUE;
                    END IF;
                    -- A limit of which nothing is known, as no driver writes it, limits nothing.
                    IF place IS NOT NULL THEN
                        runnings[place] := runnings[place] + 1;
                    END IF;
                    IF gaps[place] > 0 THEN
                        nexts[place] := greatest(nexts[place], moment - 0.05) + gaps[place];
                        entered[place] := true;
                    END IF;
                END IF;
                room := room - known.size;
                fresh := fresh || known.number;
            END LOOP;
            -- What was taken and what is in the way must not be looked at again.
            UPDATE message SET
                state = 2, attempt = least(attempt, 2147483646) + 1, lease_until = moment + _lease, claim = _claim
            WHERE number = ANY (fresh);
            taken := taken || fresh;
            EXIT queues WHEN is_cut_short;
            EXIT WHEN cardinality(closed) = 0;
            UPDATE message SET state = 4 WHERE number = ANY (closed);
            blocked := blocked + cardinality(closed);
            is_cut_short := blocked >= 2000;
            EXIT queues WHEN is_cut_short;
            EXIT WHEN is_full OR cardinality(taken) >= _most;
            wanted := 500;
        END LOOP;
    END LOOP;
    IF cardinality(keys) > 0 THEN
        UPDATE bound SET next_at = moved.next_at
        FROM unnest(keys, nexts, entered) AS moved (key, next_at, entered)
        WHERE bound.key = moved.key AND moved.entered;
        PERFORM _let_go(
            ARRAY(SELECT key FROM unnest(keys, gaps) AS rated (key, gap) WHERE gap > 0), moment
        );
    END IF;
    IF cardinality(taken) > 0 THEN
        RETURN QUERY SELECT
            message.number, message.queue, message.id, frame.frame, message.attempt,
            message.crashes, message.retries, message.priority::integer, message.inputs,
            NULL::double precision, false
        FROM unnest(taken) WITH ORDINALITY AS asked (number, place)
        JOIN message ON message.number = asked.number
        LEFT JOIN frame ON frame.number = asked.number
        ORDER BY asked.place;
    ELSE
        RETURN QUERY SELECT
            NULL::bigint, NULL::text, NULL::text, NULL::bytea, 0, 0, 0, 0, 0,
            least(
                (
                    SELECT min((SELECT min(due) FROM message WHERE state = 0 AND queue = asked.queue))
                    FROM unnest(_queues) AS asked (queue)
                ),
                (SELECT min(opens_at) FROM bound WHERE opens_at IS NOT NULL)
            ) - moment, is_cut_short;
    END IF;
END
$$;

-- Give back what a claim has leased whose answer never came.
CREATE OR REPLACE FUNCTION unclaim(_now double precision, _claim bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    keys text[];
BEGIN
    WITH returned AS (
        UPDATE message SET state = 1, lease_until = NULL
        WHERE state = 2 AND lease_until > 0 AND claim = _claim
        RETURNING limit_key
    )
    SELECT array_agg(DISTINCT limit_key) INTO keys FROM returned;
    PERFORM _let_go(keys, _clock(_now));
END
$$;

-- Renew leases; return the places in the batch of those that are still held.
CREATE OR REPLACE FUNCTION extend(
    _now double precision, _numbers bigint[], _attempts integer[], _ids text[],
    _lease double precision
) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
DECLARE
    numbers bigint[];
    places bigint[];
BEGIN
    PERFORM _hurry();
    SELECT array_agg(held.number), array_agg(held.place)
    INTO numbers, places
    FROM (
        SELECT message.number, asked.place
        FROM unnest(_numbers, _attempts, _ids) WITH ORDINALITY
            AS asked (number, attempt, id, place)
        JOIN message ON message.number = asked.number
        WHERE message.state = 2 AND message.attempt = asked.attempt AND message.id = asked.id
        ORDER BY message.number FOR NO KEY UPDATE OF message
    ) AS held;
    UPDATE message SET lease_until = _clock(_now) + _lease WHERE number = ANY (numbers);
    RETURN QUERY SELECT place FROM unnest(places) AS kept (place) ORDER BY place;
END
$$;

-- What was lent by claims with these numbers and is still on loan.
CREATE OR REPLACE FUNCTION lent_by(_first bigint, _last bigint) RETURNS TABLE (
    number bigint, queue text, id text, attempt integer, crashes integer, retries integer,
    priority integer
)
LANGUAGE sql STABLE AS $$
    SELECT number, queue, id, attempt, crashes, retries, priority FROM message
    WHERE state = 2 AND lease_until > 0 AND claim BETWEEN _first AND _last
$$;
