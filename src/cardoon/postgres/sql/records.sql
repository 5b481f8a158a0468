-- Records, each with the number of times that it was written, and the token of the call that did it last: who finds
-- his own has written it when he asked before.

CREATE OR REPLACE FUNCTION records(_kind text) RETURNS TABLE (
    name text, revision bigint, frame bytea
)
LANGUAGE sql STABLE AS $$
    SELECT record.name, record.revision, record.frame FROM record WHERE record.kind = _kind
$$;

-- 1 if it is written, 0 if not, -1 where there are too many. Those who make one take turns, or each would count
-- without the others.
CREATE OR REPLACE FUNCTION put_record(
    _kind text, _name text, _frame bytea, _revision bigint, _token bigint, _most integer
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    is_ours boolean;
BEGIN
    IF _revision > 0 THEN
        UPDATE record SET revision = revision + 1, token = _token, frame = _frame
        WHERE kind = _kind AND name = _name AND revision = _revision;
        IF FOUND THEN
            RETURN 1;
        END IF;
    ELSE
        LOCK TABLE record IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    SELECT token = _token INTO is_ours FROM record WHERE kind = _kind AND name = _name;
    IF FOUND OR _revision > 0 THEN
        RETURN coalesce(is_ours, false)::integer;
    END IF;
    IF (SELECT count(*) FROM record WHERE kind = _kind) >= _most THEN
        RETURN -1;
    END IF;
    INSERT INTO record (kind, name, revision, token, frame) VALUES (_kind, _name, 1, _token, _frame);
    RETURN 1;
END
$$;

-- Asked again, because an answer was lost, it says so as well of one that is gone.
CREATE OR REPLACE FUNCTION drop_record(
    _kind text, _name text, _revision bigint, _is_again boolean
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM record WHERE kind = _kind AND name = _name AND revision = _revision;
    RETURN FOUND OR (
        _is_again AND NOT EXISTS (SELECT FROM record WHERE kind = _kind AND name = _name)
    );
END
$$;
