-- What the service knows of a key beyond the columns of `keys`, written with
-- the key in one transaction. A key without a row here came from the earlier
-- server and may sign at once.
CREATE TABLE key_times (
    serial INTEGER PRIMARY KEY AUTOINCREMENT, -- order of making, whatever the clock said
    kid INTEGER NOT NULL UNIQUE REFERENCES keys(kid) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,           -- start of publication, seconds since 1970
    signs_from INTEGER NOT NULL            -- first second in which it may sign; keys.exp when it never does
);
