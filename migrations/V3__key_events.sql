-- What has happened to keys, also to those that are gone. A key with the event
-- 'revoked' is never published again, whatever the clock says.
CREATE TABLE key_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of events; servers watch it for news
    kid INTEGER NOT NULL,                  -- keys.kid; the row there may be deleted
    event TEXT NOT NULL CHECK (event IN ('created', 'first_signed', 'revoked', 'reencrypted', 'deleted')),
    at INTEGER NOT NULL,                   -- seconds since 1970
    reason TEXT                            -- why it was revoked, in the operator's words
);

CREATE UNIQUE INDEX key_events_once ON key_events (kid, event) WHERE event IN ('first_signed', 'revoked');
