-- Since when marks reach back; who finds that nobody knows begins the epoch.
CREATE OR REPLACE FUNCTION _remembers_since(_now double precision) RETURNS double precision
LANGUAGE plpgsql AS $$
DECLARE
    since bigint;
BEGIN
    SELECT receipt INTO since FROM replay WHERE session = '' AND sequence = 0;
    IF NOT FOUND THEN
        INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
        VALUES ('', 0, (_clock(_now) * 1000000)::bigint, 0, false, 'Infinity')
        ON CONFLICT DO NOTHING;
        SELECT receipt INTO since FROM replay WHERE session = '' AND sequence = 0;
    END IF;
    RETURN since / 1000000.0;
END
$$;

CREATE OR REPLACE FUNCTION replay_memory(_now double precision) RETURNS TABLE (
    since double precision, number bigint
)
LANGUAGE sql AS $$
    SELECT _remembers_since(_now), last_value FROM message_number
$$;

CREATE OR REPLACE FUNCTION begin_anew(_now double precision) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
    VALUES ('', 0, (_clock(_now) * 1000000)::bigint, 0, false, 'Infinity')
    ON CONFLICT (session, sequence) DO UPDATE SET receipt = excluded.receipt
$$;

-- Claim nonces, each once in a batch; return how each stands: claimed, held, done, or before-epoch where it was
-- signed before the epoch and has no mark.
CREATE OR REPLACE FUNCTION claim_nonces(
    _now double precision,
    _sessions bytea[], _sequences bigint[], _receipts bigint[], _attempts integer[],
    _expire_at double precision[], _signed_by double precision[]
) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    since constant double precision := _remembers_since(_now);
    forgotten bigint[] := '{}';
    added integer;
BEGIN
    PERFORM _hurry();
    IF since > ANY (_signed_by) THEN
        forgotten := ARRAY(
            SELECT asked.place
            FROM unnest(_sessions, _sequences, _signed_by) WITH ORDINALITY
                AS asked (session, sequence, signed_by, place)
            WHERE asked.signed_by < since AND NOT EXISTS (
                SELECT FROM replay
                WHERE replay.session = asked.session AND replay.sequence = asked.sequence
            )
        );
    END IF;
    IF cardinality(forgotten) > 0 THEN
        FOR place IN 1 .. cardinality(_sessions) LOOP
            IF place = ANY (forgotten) THEN
                RETURN NEXT 'before-epoch';
            ELSE
                RETURN QUERY SELECT claim_nonces(
                    _now, _sessions[place:place], _sequences[place:place], _receipts[place:place],
                    _attempts[place:place], _expire_at[place:place], _signed_by[place:place]
                );
            END IF;
        END LOOP;
        RETURN;
    END IF;
    INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
    SELECT session, sequence, receipt, attempt, false, expires_at
    FROM unnest(_sessions, _sequences, _receipts, _attempts, _expire_at)
        AS asked (session, sequence, receipt, attempt, expires_at)
    ORDER BY session, sequence
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    IF added = cardinality(_sessions) THEN
        RETURN QUERY SELECT 'claimed' FROM generate_series(1, added);
        RETURN;
    END IF;
    -- Nobody else claims them until the end of this transaction; only then it is looked who holds what.
    PERFORM FROM replay
    JOIN unnest(_sessions, _sequences) AS asked (session, sequence)
        ON replay.session = asked.session AND replay.sequence = asked.sequence
    ORDER BY replay.session, replay.sequence FOR UPDATE OF replay;
    UPDATE replay SET receipt = asked.receipt, attempt = asked.attempt
    FROM unnest(_sessions, _sequences, _receipts, _attempts)
        AS asked (session, sequence, receipt, attempt)
    WHERE replay.session = asked.session AND replay.sequence = asked.sequence
        AND NOT replay.done
        AND (
            (replay.receipt = asked.receipt AND replay.attempt <= asked.attempt)
            OR NOT EXISTS (
                SELECT FROM message
                WHERE message.number = replay.receipt
                    AND message.attempt = replay.attempt
                    AND message.state = 2
            )
        );
    RETURN QUERY SELECT
        CASE
            WHEN replay.done THEN 'done'
            WHEN replay.receipt = asked.receipt AND replay.attempt = asked.attempt THEN 'claimed'
            ELSE 'held'
        END
    FROM unnest(_sessions, _sequences, _receipts, _attempts) WITH ORDINALITY
        AS asked (session, sequence, receipt, attempt, place)
    JOIN replay ON replay.session = asked.session AND replay.sequence = asked.sequence
    ORDER BY asked.place;
END
$$;

CREATE OR REPLACE FUNCTION finish_nonces(
    _sessions bytea[], _sequences bigint[], _expire_at double precision[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
    SELECT DISTINCT ON (session, sequence) session, sequence, NULL::bigint, 0, true, expires_at
    FROM unnest(_sessions, _sequences, _expire_at) AS ended (session, sequence, expires_at)
    ORDER BY session, sequence
    ON CONFLICT (session, sequence) DO UPDATE SET done = true;
END
$$;

-- Whether each of these deliveries has carried its message out to the end.
CREATE OR REPLACE FUNCTION were_ended(
    _sessions bytea[], _sequences bigint[], _receipts bigint[], _attempts integer[]
) RETURNS SETOF boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT EXISTS (
        SELECT FROM replay
        WHERE replay.session = asked.session AND replay.sequence = asked.sequence
            AND replay.receipt = asked.receipt AND replay.attempt = asked.attempt AND replay.done
    )
    FROM unnest(_sessions, _sequences, _receipts, _attempts) WITH ORDINALITY
        AS asked (session, sequence, receipt, attempt, place)
    ORDER BY asked.place;
END
$$;
