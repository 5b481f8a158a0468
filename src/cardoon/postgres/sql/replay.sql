-- Claim nonces, each once in a batch; return how each stands: claimed, held or done.
CREATE OR REPLACE FUNCTION claim_nonces(
    _sessions bytea[], _sequences bigint[], _receipts bigint[], _attempts integer[],
    _expire_at double precision[]
) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    added integer;
BEGIN
    PERFORM _hurry();
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
