-- Sending. A batch comes as arrays of equal length. What few messages have (a unique key, a limit,
-- predecessors) comes as arrays as well, which are NULL where no message of the batch has it.

-- Whether each id is stored, and who has the key. The locks are those of whoever sends with one of the
-- keys: until the end of this transaction, what was found holds. Few locks, since a server has few.
CREATE OR REPLACE FUNCTION unique_holders(
    _now double precision, _ids text[], _keys text[]
) RETURNS TABLE (is_stored boolean, holder text)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM _lock_keys(_keys);
    RETURN QUERY SELECT
        EXISTS (SELECT FROM message WHERE message.id = asked.id),
        coalesce(
            (SELECT message.id FROM message WHERE message.unique_key = asked.key),
            (SELECT recent.id FROM recent WHERE recent.key = asked.key AND recent.until > _clock(_now))
        )
    FROM unnest(_ids, _keys) WITH ORDINALITY AS asked (id, key, place)
    ORDER BY asked.place;
END
$$;

CREATE OR REPLACE FUNCTION _lock_keys(_keys text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(stripe)
    FROM (
        SELECT DISTINCT hashtextextended(current_schema(), 0) + (hashtext(key) & 511) AS stripe
        FROM unnest(_keys) AS asked (key) WHERE key IS NOT NULL
        ORDER BY stripe
    ) AS stripes;
END
$$;

-- Store messages whose id is not stored; return the number of each, stored or not.
CREATE OR REPLACE FUNCTION _insert(
    _now double precision, _wanted boolean[], _ids text[], _queues text[], _priorities integer[],
    _run_at double precision[], _frames bytea[], _unique_keys text[], _limit_keys text[],
    _input_counts integer[]
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    numbers bigint[] := ARRAY(
        SELECT nextval('message_number') FROM generate_series(1, cardinality(_ids))
    );
    stored integer;
BEGIN
    -- Those who send the same ids wait for one another in one order.
    INSERT INTO message (
        number, id, queue, priority, state, due, size, inputs, unique_key, limit_key
    )
    SELECT
        sent.number, sent.id, sent.queue, sent.priority,
        CASE
            WHEN sent.input_count > 0 THEN 3
            WHEN sent.run_at > _now THEN 0
            ELSE 1
        END,
        coalesce(sent.run_at, _now), octet_length(sent.frame), coalesce(sent.input_count, 0),
        sent.unique_key, sent.limit_key
    FROM unnest(
        numbers, _wanted, _ids, _queues, _priorities, _run_at, _frames, _unique_keys, _limit_keys,
        _input_counts
    ) AS sent (
        number, wanted, id, queue, priority, run_at, frame, unique_key, limit_key, input_count
    )
    WHERE sent.wanted IS NOT FALSE
    ORDER BY sent.id, sent.number
    ON CONFLICT (id) DO NOTHING;
    GET DIAGNOSTICS stored = ROW_COUNT;
    IF stored = cardinality(_ids) THEN
        INSERT INTO frame (number, frame)
        SELECT sent.number, sent.frame FROM unnest(numbers, _frames) AS sent (number, frame);
    ELSIF stored > 0 THEN
        INSERT INTO frame (number, frame)
        SELECT sent.number, sent.frame FROM unnest(numbers, _frames) AS sent (number, frame)
        WHERE EXISTS (SELECT FROM message WHERE message.number = sent.number);
    END IF;
    RETURN numbers;
END
$$;

-- Have a key be the message's, where no other has it; only what is new begins a period.
CREATE OR REPLACE FUNCTION _take_keys(_numbers bigint[], _keys text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    sent record;
BEGIN
    PERFORM _lock_keys(_keys);
    FOR sent IN
        SELECT * FROM unnest(_numbers, _keys) AS given (number, key) WHERE given.key IS NOT NULL
    LOOP
        UPDATE message SET unique_key = sent.key
        WHERE number = sent.number
            AND NOT EXISTS (SELECT FROM message WHERE unique_key = sent.key);
    END LOOP;
END
$$;

-- Store messages that `unique_holders` has nothing against, and copies of what is broadcast; such a
-- message has neither key nor predecessors.
CREATE OR REPLACE FUNCTION publish(
    _now double precision, _ids text[], _queues text[], _priorities integer[],
    _run_at double precision[], _frames bytea[], _fanouts boolean[],
    _unique_keys text[], _periods double precision[],
    _limit_keys text[], _most integer[], _gaps double precision[],
    _input_counts integer[], _on_failure boolean[], _delays double precision[],
    _input_of integer[], _positions integer[], _predecessors text[], _requests bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    moment double precision := _clock(_now);
    wanted boolean[];
    numbers bigint[];
BEGIN
    IF _fanouts IS NOT NULL THEN
        wanted := ARRAY(
            SELECT NOT sent.fanout FROM unnest(_fanouts) WITH ORDINALITY AS sent (fanout, place)
            ORDER BY sent.place
        );
    END IF;
    numbers := _insert(
        moment, wanted, _ids, _queues, _priorities, _run_at, _frames, _unique_keys, _limit_keys,
        _input_counts
    );
    IF _fanouts IS NOT NULL THEN
        PERFORM _spread(
            moment, _fanouts, _ids, _queues, _priorities, _run_at, _frames, NULL, NULL, NULL
        );
    END IF;
    IF _periods IS NOT NULL THEN
        INSERT INTO recent (key, id, until)
        SELECT message.unique_key, message.id, moment + sent.period
        FROM unnest(numbers, _periods) AS sent (number, period)
        JOIN message ON message.number = sent.number
        WHERE sent.period > 0 AND message.unique_key IS NOT NULL
        ORDER BY message.unique_key
        ON CONFLICT (key) DO UPDATE SET id = excluded.id, until = excluded.until;
    END IF;
    PERFORM _settle_down(
        moment, numbers, _limit_keys, _most, _gaps, _run_at, _input_counts, _on_failure, _delays,
        _input_of, _positions, _predecessors, _requests
    );
END
$$;

-- Limits are noted before anything is laid down: what is dropped there and then was sent as well.
CREATE OR REPLACE FUNCTION _settle_down(
    _now double precision, _numbers bigint[],
    _limit_keys text[], _most integer[], _gaps double precision[],
    _run_at double precision[], _input_counts integer[], _on_failure boolean[],
    _delays double precision[],
    _input_of integer[], _positions integer[], _predecessors text[], _requests bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    changed text[];
BEGIN
    IF _limit_keys IS NOT NULL THEN
        changed := _bind(_numbers, _limit_keys, _most, _gaps);
    END IF;
    IF _input_counts IS NOT NULL THEN
        PERFORM _lay_down(
            _now, _numbers, _run_at, _input_counts, _on_failure, _delays,
            _input_of, _positions, _predecessors, _requests
        );
    END IF;
    IF changed IS NOT NULL THEN
        PERFORM _let_go(changed, _now);
    END IF;
END
$$;
