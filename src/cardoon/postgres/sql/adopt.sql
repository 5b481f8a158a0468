-- Store messages that another server keeps as if they had been claimed here, but not those whose id is
-- stored; return the places in the batch of those that are lent, and their numbers. It is committed as
-- firmly as a claim. Called again with the same token, after an answer was lost, it says the same.
CREATE OR REPLACE FUNCTION adopt(
    _now double precision, _ids text[], _queues text[], _priorities integer[], _frames bytea[],
    _lease double precision, _claim bigint
) RETURNS TABLE (place integer, number bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment double precision := _clock(_now);
    numbers bigint[] := ARRAY(
        SELECT nextval('message_number') FROM generate_series(1, cardinality(_ids))
    );
BEGIN
    -- Those who send the same ids wait for one another in one order.
    INSERT INTO message (number, id, queue, priority, state, due, attempt, size, lease_until, claim)
    SELECT
        sent.number, sent.id, sent.queue, sent.priority, 2, moment, 1, octet_length(sent.frame),
        moment + _lease, _claim
    FROM unnest(numbers, _ids, _queues, _priorities, _frames)
        AS sent (number, id, queue, priority, frame)
    ORDER BY sent.id, sent.number
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO frame (number, frame)
    SELECT sent.number, sent.frame FROM unnest(numbers, _frames) AS sent (number, frame)
    WHERE EXISTS (SELECT FROM message WHERE message.number = sent.number);
    RETURN QUERY
    SELECT min(sent.place)::integer, message.number
    FROM unnest(_ids) WITH ORDINALITY AS sent (id, place)
    JOIN message ON message.id = sent.id
    WHERE message.state = 2 AND message.claim = _claim AND message.attempt = 1
    GROUP BY message.number;
END
$$;
