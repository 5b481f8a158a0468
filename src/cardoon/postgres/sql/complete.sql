-- End loans, with all that belongs to their ends, in one step. Everything comes as arrays: by completion
-- (its end, its nonce), or with the place of the completion that it belongs to. What belongs to a loan
-- that was lost has no effect.
--
-- Ends: 0 acknowledged, 1 released, 2 retried, 3 crashed, 4 dead letter, 5 quarantine.

CREATE OR REPLACE FUNCTION complete(
    _now double precision,
    _numbers bigint[], _attempts integer[], _ids text[], _ends integer[],
    _delays double precision[], _reasons text[], _details text[],
    _sessions bytea[], _sequences bigint[], _expire_at double precision[],
    _result_of integer[], _tasks text[], _finals boolean[], _results_expire_at double precision[],
    _results bytea[],
    _outcome_of integer[], _succeeded boolean[], _skipped boolean[], _outcomes bytea[],
    _sent_by integer[], _unless integer[], _sent_ids text[], _queues text[], _priorities integer[],
    _run_at double precision[], _frames bytea[], _fanouts boolean[],
    _unique_keys text[], _limit_keys text[], _most integer[], _gaps double precision[],
    _input_counts integer[], _on_failure boolean[], _sent_delays double precision[],
    _input_of integer[], _positions integer[], _predecessors text[], _requests bytea[]
) RETURNS TABLE (held integer[], woken integer)
LANGUAGE plpgsql AS $$
DECLARE
    moment double precision := _clock(_now);
    held_numbers bigint[];
    held_keys text[];
    is_all boolean;
BEGIN
    -- `key` of a message never changes, but whether it is held does until the lock is ours.
    SELECT array_agg(loan.place), array_agg(loan.number), array_agg(loan.limit_key)
    INTO held, held_numbers, held_keys
    FROM (
        SELECT asked.place::integer, message.number, message.limit_key
        FROM unnest(_numbers, _attempts, _ids) WITH ORDINALITY
            AS asked (number, attempt, id, place)
        JOIN message ON message.number = asked.number
        WHERE message.state = 2 AND message.attempt = asked.attempt AND message.id = asked.id
        ORDER BY message.number FOR UPDATE OF message
    ) AS loan;
    woken := 0;
    IF held IS NULL THEN
        held := '{}';
        RETURN NEXT;
        RETURN;
    END IF;
    is_all := cardinality(held) = cardinality(_numbers);
    PERFORM _end(moment, held, _numbers, _ends, _delays, _reasons, _details, _sessions, _sequences);
    IF _result_of IS NOT NULL THEN
        PERFORM _store_decided(
            moment, held, _result_of, _tasks, _finals, _results_expire_at, _results
        );
    END IF;
    IF _sessions IS NOT NULL THEN
        INSERT INTO replay (session, sequence, receipt, attempt, done, expires_at)
        SELECT DISTINCT ON (ended.session, ended.sequence)
            ended.session, ended.sequence, NULL::bigint, 0, true, ended.expires_at
        FROM unnest(_sessions, _sequences, _expire_at, _ends) WITH ORDINALITY
            AS ended (session, sequence, expires_at, kind, place)
        WHERE ended.session IS NOT NULL AND ended.kind NOT IN (1, 2, 3)
            AND (is_all OR ended.place = ANY (held))
        ORDER BY ended.session, ended.sequence
        ON CONFLICT (session, sequence) DO UPDATE SET done = true;
    END IF;
    IF _sent_by IS NOT NULL THEN
        PERFORM _replace(
            moment, held, _ids, _sent_by, _unless, _sent_ids, _queues, _priorities, _run_at, _frames,
            _fanouts, _unique_keys, _limit_keys, _most, _gaps, _input_counts, _on_failure, _sent_delays,
            _input_of, _positions, _predecessors, _requests
        );
    END IF;
    IF _outcome_of IS NOT NULL THEN
        woken := _arrive(moment, held, _outcome_of, _ids, _succeeded, _skipped, _outcomes);
    END IF;
    held_keys := ARRAY(SELECT DISTINCT key FROM unnest(held_keys) AS freed (key) WHERE key IS NOT NULL);
    IF cardinality(held_keys) > 0 THEN
        woken := woken + _let_go(held_keys, moment);
    END IF;
    RETURN NEXT;
END
$$;

-- Delete, put back or put away the messages of the loans that are held.
CREATE OR REPLACE FUNCTION _end(
    _now double precision, _held integer[], _numbers bigint[], _ends integer[],
    _delays double precision[], _reasons text[], _details text[],
    _sessions bytea[], _sequences bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    ended bigint[];
BEGIN
    IF _reasons IS NOT NULL THEN
        INSERT INTO kept (
            place, queue, id, priority, attempt, crashes, retries, reason, detail, kept_at,
            session, sequence, inputs_of, unique_key, limit_key, limit_most, limit_gap, frame
        )
        SELECT
            CASE loan.kind WHEN 4 THEN 'dead' ELSE 'quarantine' END,
            message.queue, message.id, message.priority,
            message.attempt, message.crashes, message.retries,
            loan.reason, loan.detail, _now, loan.session, loan.sequence,
            CASE WHEN message.inputs > 0 THEN message.number END,
            message.unique_key, message.limit_key, bound.most, bound.gap, frame.frame
        FROM unnest(_numbers, _ends, _reasons, _details, _sessions, _sequences) WITH ORDINALITY
            AS loan (number, kind, reason, detail, session, sequence, place)
        JOIN message ON message.number = loan.number
        JOIN frame ON frame.number = loan.number
        LEFT JOIN bound ON bound.key = message.limit_key
        WHERE loan.kind IN (4, 5) AND loan.place = ANY (_held)
        ORDER BY loan.place;
    END IF;
    IF _delays IS NOT NULL THEN
        UPDATE message SET
            state = CASE WHEN loan.delay > 0 THEN 0 ELSE 1 END,
            due = CASE WHEN loan.delay > 0 THEN _now + loan.delay ELSE message.due END,
            crashes = least(message.crashes, 2147483646) + (loan.kind = 3)::integer,
            retries = least(message.retries, 2147483646) + (loan.kind = 2)::integer,
            lease_until = NULL
        FROM unnest(_numbers, _ends, _delays) WITH ORDINALITY
            AS loan (number, kind, delay, place)
        WHERE message.number = loan.number AND loan.kind IN (1, 2, 3) AND loan.place = ANY (_held);
    END IF;
    ended := ARRAY(
        SELECT loan.number
        FROM unnest(_numbers, _ends) WITH ORDINALITY AS loan (number, kind, place)
        WHERE loan.kind NOT IN (1, 2, 3) AND loan.place = ANY (_held)
    );
    IF cardinality(ended) > 0 THEN
        PERFORM _delete(ended);
    END IF;
END
$$;

-- Store what was sent in the place of messages that have ended, whoever has their keys by now.
CREATE OR REPLACE FUNCTION _replace(
    _now double precision, _held integer[], _loans text[], _sent_by integer[], _unless integer[],
    _ids text[], _queues text[], _priorities integer[], _run_at double precision[], _frames bytea[],
    _fanouts boolean[],
    _unique_keys text[], _limit_keys text[], _most integer[], _gaps double precision[],
    _input_counts integer[], _on_failure boolean[], _delays double precision[],
    _input_of integer[], _positions integer[], _predecessors text[], _requests bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    -- A message with the id of one that a later completion ends was dropped, as that was stored still.
    wanted boolean[] := ARRAY(
        SELECT sent.sent_by = ANY (_held) AND (sent.unless IS NULL OR sent.unless <> ALL (_held))
        FROM unnest(_sent_by, _unless) WITH ORDINALITY AS sent (sent_by, unless, place)
        ORDER BY sent.place
    );
    copied boolean[];
    numbers bigint[];
BEGIN
    IF _fanouts IS NOT NULL THEN
        SELECT
            array_agg(sent.wanted AND sent.fanout ORDER BY sent.place),
            array_agg(sent.wanted AND NOT sent.fanout ORDER BY sent.place)
        INTO copied, wanted
        FROM unnest(wanted, _fanouts) WITH ORDINALITY AS sent (wanted, fanout, place);
    END IF;
    numbers := _insert(
        _now, wanted, _ids, _queues, _priorities, _run_at, _frames, NULL, _limit_keys, _input_counts
    );
    IF _fanouts IS NOT NULL THEN
        PERFORM _spread(
            _now, copied, _ids, _queues, _priorities, _run_at, _frames, _sent_by, _held, _loans
        );
    END IF;
    IF _unique_keys IS NOT NULL THEN
        PERFORM _take_keys(numbers, _unique_keys);
    END IF;
    PERFORM _settle_down(
        _now, numbers, _limit_keys, _most, _gaps, _run_at, _input_counts, _on_failure, _delays,
        _input_of, _positions, _predecessors, _requests
    );
END
$$;

CREATE OR REPLACE FUNCTION _arrive(
    _now double precision, _held integer[], _outcome_of integer[], _ids text[],
    _succeeded boolean[], _skipped boolean[], _frames bytea[]
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    ids text[];
    succeeded boolean[];
    skipped boolean[];
    frames bytea[];
BEGIN
    SELECT
        array_agg(arrival.id), array_agg(arrival.succeeded), array_agg(arrival.skipped),
        array_agg(arrival.frame)
    INTO ids, succeeded, skipped, frames
    FROM (
        SELECT DISTINCT ON (loan.id) loan.id, told.succeeded, told.skipped, told.frame
        FROM unnest(_outcome_of, _succeeded, _skipped, _frames)
            AS told (place, succeeded, skipped, frame)
        JOIN unnest(_ids) WITH ORDINALITY AS loan (id, place) ON loan.place = told.place
        WHERE told.place = ANY (_held)
        ORDER BY loan.id, told.place
    ) AS arrival;
    IF ids IS NULL THEN
        RETURN 0;
    END IF;
    RETURN _hand_on(_now, ids, succeeded, skipped, frames);
END
$$;
