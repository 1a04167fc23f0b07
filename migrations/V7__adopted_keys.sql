-- Public keys of another issuer, published beside those of `keys` until their
-- tokens have expired. Whoever can write the file could add a key of his own, so
-- that each is sealed under NOT_MY_KEY, with the end of its publication.
CREATE TABLE adopted_keys (
    kid TEXT NOT NULL PRIMARY KEY,         -- as the other issuer has it
    key BLOB NOT NULL,                     -- Fernet token (text) of the JWK and of exp
    adopted_at INTEGER NOT NULL,           -- start of publication, seconds since 1970
    exp INTEGER NOT NULL                   -- end of publication, seconds since 1970
);

-- What has happened to them, also to those that are gone. A kid with the event
-- 'revoked' is never adopted again.
CREATE TABLE adopted_key_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of events; servers watch it for news
    kid TEXT NOT NULL,                     -- adopted_keys.kid; the row there may be deleted
    event TEXT NOT NULL CHECK (event IN ('adopted', 'revoked', 'deleted')),
    at INTEGER NOT NULL,                   -- seconds since 1970
    reason TEXT                            -- in the operator's words
);

CREATE UNIQUE INDEX adopted_key_events_once ON adopted_key_events (kid) WHERE event = 'revoked';
