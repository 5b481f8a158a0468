-- Messages of which only so many may be leased at a time, or so often one. A message that comes to the
-- head of its queue while its key is closed is set to state 4, blocked, and costs nothing from then on.
-- Whoever makes room sees to it that of each key and queue as many are ready as there is room for, the
-- most urgent and of those the oldest. All of it under the lock of the key's bound.

-- Note what the latest of these says of each key; return the keys whose limit changed.
CREATE OR REPLACE FUNCTION _bind(
    _numbers bigint[], _keys text[], _most integer[], _gaps double precision[]
) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    changed text[];
BEGIN
    WITH latest AS (
        SELECT DISTINCT ON (sent.key) sent.key, sent.most, sent.gap
        FROM unnest(_numbers, _keys, _most, _gaps) WITH ORDINALITY AS sent (number, key, most, gap, place)
        JOIN message ON message.number = sent.number
        WHERE sent.key IS NOT NULL
        ORDER BY sent.key, sent.place DESC
    ),
    noted AS (
        INSERT INTO bound (key, most, gap)
        SELECT key, most, gap FROM latest ORDER BY key
        ON CONFLICT (key) DO UPDATE SET most = excluded.most, gap = excluded.gap, expires_at = NULL
        WHERE bound.most <> excluded.most OR bound.gap <> excluded.gap OR bound.expires_at IS NOT NULL
        RETURNING key
    )
    SELECT array_agg(key) INTO changed FROM noted;
    RETURN changed;
END
$$;

-- Make ready what there is room for, or set the time at which there will be; forget keys without
-- messages. It looks at what there is, and may be called once too often. Returns how many it let go.
CREATE OR REPLACE FUNCTION _let_go(_keys text[], _now double precision) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    key_bound bound;
    room bigint;
    line text;
    freed bigint[];
    count integer := 0;
BEGIN
    FOR key_bound IN SELECT * FROM bound WHERE key = ANY (_keys) ORDER BY key FOR UPDATE LOOP
        line := (SELECT min(queue) FROM message WHERE limit_key = key_bound.key AND state = 4);
        IF line IS NULL THEN
            IF NOT EXISTS (SELECT FROM message WHERE limit_key = key_bound.key) THEN
                IF key_bound.next_at = 0 THEN
                    DELETE FROM bound WHERE key = key_bound.key;
                ELSE
                    UPDATE bound SET expires_at = next_at, opens_at = NULL WHERE key = key_bound.key;
                END IF;
            END IF;
            CONTINUE;
        END IF;
        IF key_bound.gap > 0 AND key_bound.next_at > _now THEN
            UPDATE bound SET opens_at = next_at WHERE key = key_bound.key;
            CONTINUE;
        END IF;
        room := NULL;  -- any number
        IF key_bound.most > 0 THEN
            room := greatest(0, key_bound.most - (
                SELECT count(*) FROM message WHERE limit_key = key_bound.key AND state = 2
            ));
        END IF;
        IF key_bound.gap > 0 THEN
            -- Or a few more than that.
            room := least(room, 2 + floor(least(
                1e9, (_now - greatest(key_bound.next_at, _now - 0.05)) / key_bound.gap
            ))::bigint);
        END IF;
        WHILE line IS NOT NULL AND room IS DISTINCT FROM 0 LOOP
            freed := ARRAY(
                SELECT first.number
                FROM (
                    (
                        SELECT number, state, priority FROM message
                        WHERE limit_key = key_bound.key AND state = 4 AND queue = line
                        ORDER BY priority DESC, number LIMIT room
                    )
                    UNION ALL
                    (
                        SELECT number, state, priority FROM message
                        WHERE limit_key = key_bound.key AND state = 1 AND queue = line
                        ORDER BY priority DESC, number LIMIT room
                    )
                    ORDER BY priority DESC, number LIMIT room
                ) AS first
                WHERE first.state = 4
            );
            -- What is locked is about to be deleted.
            UPDATE message SET state = 1
            WHERE number IN (
                SELECT number FROM message
                WHERE number = ANY (freed) AND state = 4
                ORDER BY number FOR NO KEY UPDATE SKIP LOCKED
            );
            count := count + cardinality(freed);
            line := (
                SELECT min(queue) FROM message
                WHERE limit_key = key_bound.key AND state = 4 AND queue > line
            );
        END LOOP;
    END LOOP;
    RETURN count;
END
$$;

-- Let go who had to wait for this moment; false if others see to it.
CREATE OR REPLACE FUNCTION _let_go_on_time(_now double precision) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    keys text[] := ARRAY(
        SELECT key FROM bound
        WHERE opens_at <= _now
        ORDER BY key LIMIT 100 FOR UPDATE SKIP LOCKED
    );
BEGIN
    IF cardinality(keys) = 0 THEN
        RETURN false;
    END IF;
    UPDATE bound SET opens_at = NULL WHERE key = ANY (keys);
    PERFORM _let_go(keys, _now);
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION limits(_now double precision) RETURNS TABLE (
    key text, most integer, gap double precision, running bigint, waiting bigint,
    opens_in double precision
)
LANGUAGE sql STABLE AS $$
    SELECT used.key, used.most, used.gap, used.running, used.waiting, used.opens_in
    FROM (
        SELECT
            bound.key, bound.most, bound.gap,
            CASE WHEN bound.most > 0 THEN (
                SELECT count(*) FROM message WHERE limit_key = bound.key AND state = 2
            ) ELSE 0 END AS running,
            (
                SELECT count(*) FROM message
                WHERE limit_key = bound.key AND state IN (0, 1, 4) AND due <= moment
            ) AS waiting,
            CASE WHEN bound.gap > 0 AND bound.next_at > moment THEN bound.next_at - moment END
                AS opens_in
        FROM bound, _clock(_now) AS moment
    ) AS used
    WHERE used.waiting > 0
        AND (used.opens_in IS NOT NULL OR (used.most > 0 AND used.running >= used.most))
    ORDER BY used.waiting DESC, used.key
$$;
