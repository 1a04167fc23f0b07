-- Accounts that may not sign in. A table of its own, since readers of the file
-- rely on the columns of `users`.
CREATE TABLE disabled_accounts (
    user_id INTEGER PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    at INTEGER NOT NULL,                   -- seconds since 1970
    reason TEXT NOT NULL                   -- in the operator's words
);
