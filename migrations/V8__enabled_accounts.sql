-- Accounts that were let in again, when and why: the last time, which a row of
-- `disabled_accounts` may be later than. A table of its own, so that a row there means
-- disabled to every version.
CREATE TABLE enabled_accounts (
    user_id INTEGER PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    at INTEGER NOT NULL,                   -- seconds since 1970
    reason TEXT                            -- in the operator's words
);
