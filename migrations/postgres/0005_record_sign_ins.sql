-- The same function, with the hashes that the passwords were checked against: a sign-in that
-- was under way when `users reset` replaced the hash is not written. A version that calls
-- the one of five arguments goes on doing so.
CREATE FUNCTION record_sign_ins(commit_id UUID, accounts BIGINT[], names TEXT[], hashes TEXT[], clients TEXT[], times BIGINT[])
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
        UPDATE users SET last_login = signed_in_at
        WHERE id = accounts[n] AND username = names[n] AND password_hash = hashes[n]
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
