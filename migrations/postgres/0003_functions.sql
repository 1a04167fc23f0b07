-- What each sign-in runs is in functions: PostgreSQL keeps the plans of their statements
-- for a session, which takes less than planning a statement without a name each time.

-- Lets a call in, or tells the time until one would be, in ms. The row is locked before
-- the clock is read, so the times are in order.
CREATE FUNCTION admit_call(called_quota TEXT, caller UUID, rate INTEGER, OUT is_admitted BOOLEAN, OUT wait BIGINT)
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO calls AS c (quota, client, admitted, at)
    VALUES (called_quota, caller, TRUE, ARRAY[clock_timestamp()])
    ON CONFLICT (quota, client) DO UPDATE SET (admitted, at) = (
        SELECT cardinality(c.at) - past < rate,
            CASE WHEN cardinality(c.at) - past < rate THEN (c.at || now)[past + 1:] ELSE c.at END
        FROM (
            -- Times that count no more: they are a second old, or the clock was set back.
            SELECT now, CASE WHEN c.at[cardinality(c.at)] > now THEN cardinality(c.at)
                ELSE width_bucket(now - interval '1 second', c.at) END AS past
            FROM (SELECT clock_timestamp() AS now OFFSET 0) clock OFFSET 0
        ) latest)
    RETURNING c.admitted, ceil(1000 * extract(epoch FROM
        c.at[cardinality(c.at) - rate + 1] + interval '1 second' - clock_timestamp()))
    INTO is_admitted, wait;
END $$;

-- Writes sign-ins, and tells which: none of an account that was deleted or disabled. With
-- a commit_id it is called outside a transaction, and writes all or fails.
CREATE FUNCTION record_sign_ins(commit_id UUID, accounts BIGINT[], names TEXT[], clients TEXT[], times BIGINT[])
RETURNS BOOLEAN[] LANGUAGE plpgsql AS $$
DECLARE
    written BOOLEAN[] := '{}';
    signed_in_at TIMESTAMP;
BEGIN
    -- A replica that is cut off may not hold its locks for long.
    PERFORM set_config('synchronous_commit', 'on', TRUE), set_config('lock_timeout', '2s', TRUE);
    IF commit_id IS NOT NULL THEN
        INSERT INTO commits (id) VALUES (commit_id);
    END IF;
    -- In one order, so that replicas do not wait for each other in a circle. The next
    -- statements see what those have written that this one waited for.
    PERFORM FROM users WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
    FOR n IN 1 .. cardinality(accounts) LOOP
        signed_in_at := to_timestamp(times[n]) AT TIME ZONE 'UTC';
        UPDATE users SET last_login = signed_in_at WHERE id = accounts[n] AND username = names[n]
            AND NOT EXISTS (SELECT FROM disabled_accounts WHERE user_id = users.id);
        written[n] := FOUND;
        IF written[n] THEN
            INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
            VALUES (clients[n], signed_in_at, accounts[n]);
        ELSIF commit_id IS NOT NULL THEN
            RAISE no_data_found;
        END IF;
    END LOOP;
    RETURN written;
END $$;
