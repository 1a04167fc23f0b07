-- Keys that are never published again, whatever the clock says: those whose kid
-- a token of /auth?expired has named, and keys of an earlier server that were
-- revoked, by their thumbprint, since their kids can be given to a copy.
CREATE TABLE withdrawn_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- servers watch it for news
    kid INTEGER NOT NULL UNIQUE,           -- keys.kid, or the first 53 bits of the thumbprint
    at INTEGER NOT NULL                    -- seconds since 1970
);

-- Keys of an earlier server that were there when the file was taken over. A row
-- of `keys` with a small number and without times counts only if it is one of them.
CREATE TABLE earlier_keys (
    kid INTEGER PRIMARY KEY,               -- keys.kid; the row there may be deleted
    thumbprint INTEGER                     -- first 53 bits; NULL until the key was opened
);

INSERT INTO earlier_keys (kid)
SELECT kid FROM keys WHERE kid <= 4294967296 AND kid NOT IN (SELECT kid FROM key_times);
