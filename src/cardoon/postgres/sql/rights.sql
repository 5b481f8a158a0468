-- After all functions. What drivers call runs with the rights of the owner, finds only our names, and is
-- open to those to whom `cardoon.postgres.access` grants it. The planner is to follow indexes whatever it
-- believes of the sizes of tables: a plan that was made when one was empty is kept for long.
DO $$
DECLARE
    function record;
BEGIN
    FOR function IN
        SELECT oid::regprocedure AS name, left(proname, 1) = '_' AS is_private,
            proname IN ('depths', 'limits') AS is_for_people
        FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function.name);
        CONTINUE WHEN function.is_private;
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', function.name);
        EXECUTE format('ALTER FUNCTION %s SET search_path FROM CURRENT', function.name);
        CONTINUE WHEN function.is_for_people;
        EXECUTE format('ALTER FUNCTION %s SET enable_seqscan = off', function.name);
        EXECUTE format('ALTER FUNCTION %s SET enable_hashjoin = off', function.name);
        EXECUTE format('ALTER FUNCTION %s SET enable_mergejoin = off', function.name);
        EXECUTE format('ALTER FUNCTION %s SET enable_bitmapscan = off', function.name);
        EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_generic_plan', function.name);
    END LOOP;
END
$$;
