-- Keep results: of one task the first final one stays, and a state before the end gives way to the next.
-- A batch has one for each task.
CREATE OR REPLACE FUNCTION store_results(
    _now double precision, _tasks text[], _finals boolean[], _expire_at double precision[],
    _frames bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO result (task_id, final, expires_at, written_by, frame)
    SELECT task_id, final, expires_at, txid_current(), frame
    FROM unnest(_tasks, _finals, _expire_at, _frames) AS given (task_id, final, expires_at, frame)
    ORDER BY task_id
    ON CONFLICT (task_id) DO UPDATE SET
        final = excluded.final, expires_at = excluded.expires_at,
        written_by = excluded.written_by, frame = excluded.frame
    WHERE NOT result.final OR result.expires_at <= _clock(_now);
END
$$;

-- Results of completions, which decide: the latest final one replaces what lies there.
CREATE OR REPLACE FUNCTION _store_decided(
    _now double precision, _held integer[], _result_of integer[], _tasks text[], _finals boolean[],
    _expire_at double precision[], _frames bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO result (task_id, final, expires_at, written_by, frame)
    SELECT DISTINCT ON (task_id) task_id, final, expires_at, txid_current(), frame
    FROM unnest(_result_of, _tasks, _finals, _expire_at, _frames) WITH ORDINALITY
        AS given (result_of, task_id, final, expires_at, frame, place)
    WHERE result_of = ANY (_held)
    ORDER BY task_id, final DESC, place DESC
    ON CONFLICT (task_id) DO UPDATE SET
        final = excluded.final, expires_at = excluded.expires_at,
        written_by = excluded.written_by, frame = excluded.frame
    WHERE excluded.final OR NOT result.final OR result.expires_at <= _now;
END
$$;

CREATE OR REPLACE FUNCTION load_results(_now double precision, _tasks text[]) RETURNS TABLE (
    task_id text, frame bytea, final boolean, expires_at double precision
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT task_id, frame, final, expires_at
    FROM result
    WHERE task_id = ANY (_tasks) AND (expires_at IS NULL OR expires_at > _clock(_now));
END
$$;

-- Every transaction older than this has ended.
CREATE OR REPLACE FUNCTION horizon() RETURNS bigint
LANGUAGE sql STABLE AS 'SELECT txid_snapshot_xmin(txid_current_snapshot())';

-- Tasks with a final result that may be news to who has looked at this horizon.
CREATE OR REPLACE FUNCTION results_since(_horizon bigint, _most integer) RETURNS TABLE (
    task_id text
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT task_id FROM result WHERE final AND written_by >= _horizon LIMIT _most;
END
$$;

CREATE OR REPLACE FUNCTION forget_results(_tasks text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM result WHERE task_id IN (
        SELECT task_id FROM result WHERE task_id = ANY (_tasks) ORDER BY task_id FOR UPDATE
    );
END
$$;
