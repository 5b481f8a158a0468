-- Take back what the silent held, wake strays, and delete what has expired. `is_more` says that some was
-- left for the next call, so that each is short.
CREATE OR REPLACE FUNCTION maintain(_now double precision) RETURNS TABLE (
    taken_back integer, woken integer, is_more boolean
)
LANGUAGE plpgsql AS $$
DECLARE
    moment double precision := _clock(_now);
    room constant integer := 5000;
    lost bigint[];
    keys text[];
    ended text[];
    count integer;
BEGIN
    taken_back := 0;
    woken := 0;
    is_more := false;
    PERFORM _hurry();
    IF EXISTS (SELECT FROM dormant WHERE look_at <= moment) THEN
        woken := _wake_strays(moment);
    END IF;
    IF EXISTS (SELECT FROM message WHERE state = 2 AND lease_until <= moment) THEN
        lost := ARRAY(
            SELECT number FROM message
            WHERE state = 2 AND lease_until <= moment
            ORDER BY lease_until LIMIT room FOR NO KEY UPDATE SKIP LOCKED
        );
        WITH returned AS (
            UPDATE message SET
                state = 0,
                due = moment + CASE WHEN crashes = 0 THEN 1 ELSE 10 END,
                crashes = least(crashes, 2147483646) + 1,
                lease_until = NULL
            WHERE number = ANY (lost)
            RETURNING limit_key
        )
        SELECT array_agg(DISTINCT limit_key) FILTER (WHERE limit_key IS NOT NULL)
        INTO keys
        FROM returned;
        taken_back := cardinality(lost);
        is_more := taken_back = room;
        woken := woken + coalesce(_let_go(keys, moment), 0);
    END IF;
    IF EXISTS (SELECT FROM result WHERE expires_at <= moment) THEN
        DELETE FROM result WHERE task_id IN (
            SELECT task_id FROM result WHERE expires_at <= moment
            ORDER BY expires_at LIMIT room FOR UPDATE SKIP LOCKED
        );
        GET DIAGNOSTICS count = ROW_COUNT;
        is_more := is_more OR count = room;
    END IF;
    IF EXISTS (SELECT FROM replay WHERE expires_at <= moment) THEN
        DELETE FROM replay WHERE (session, sequence) IN (
            SELECT session, sequence FROM replay WHERE expires_at <= moment
            ORDER BY expires_at LIMIT room FOR UPDATE SKIP LOCKED
        );
        GET DIAGNOSTICS count = ROW_COUNT;
        is_more := is_more OR count = room;
    END IF;
    DELETE FROM broadcast WHERE expires_at <= moment;
    PERFORM _forget_posts(moment, room);
    DELETE FROM bound WHERE key IN (
        SELECT key FROM bound WHERE expires_at <= moment
        ORDER BY key LIMIT room FOR UPDATE SKIP LOCKED
    );
    DELETE FROM recent WHERE key IN (
        SELECT key FROM recent WHERE until <= moment
        ORDER BY until LIMIT room FOR UPDATE SKIP LOCKED
    );
    IF EXISTS (SELECT FROM subscription WHERE expires_at <= moment) THEN
        ended := ARRAY(
            SELECT queue FROM subscription WHERE expires_at <= moment
            ORDER BY expires_at LIMIT room FOR NO KEY UPDATE SKIP LOCKED
        );
        is_more := delete_copies(moment, ended, room) = room OR is_more;
    END IF;
    RETURN NEXT;
END
$$;

-- One at a time, so that numbers are in the order of commits: who has heard one asks for later ones only.
CREATE OR REPLACE FUNCTION broadcast(_frame bytea, _expires_at double precision) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE broadcast IN EXCLUSIVE MODE;
    INSERT INTO broadcast (expires_at, frame) VALUES (_expires_at, _frame);
END
$$;

CREATE OR REPLACE FUNCTION heard(_now double precision, _after bigint) RETURNS TABLE (
    number bigint, frame bytea
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT number, frame FROM broadcast
    WHERE number > _after AND expires_at > _clock(_now)
    ORDER BY number;
END
$$;
