-- The three tables that readers of the file rely on. Their columns and the
-- order of them never change; whatever is new goes into tables of other names.
-- A file that the earlier server made already has them.

-- One row a signing key.
CREATE TABLE IF NOT EXISTS keys (
    kid INTEGER PRIMARY KEY AUTOINCREMENT, -- first 53 bits of the RFC 7638 thumbprint; small numbers came from the earlier server
    key BLOB NOT NULL,                     -- Fernet token (text) of the PKCS#8 PEM, under NOT_MY_KEY
    exp INTEGER NOT NULL                   -- end of publication, seconds since 1970
);

-- One row an account.
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL UNIQUE,         -- RFC 8265 UsernameCasePreserved
    password_hash TEXT NOT NULL,           -- PHC string of Argon2
    email TEXT UNIQUE,                     -- domain in lower case; none for demo users
    date_registered TIMESTAMP DEFAULT CURRENT_TIMESTAMP, -- UTC, YYYY-MM-DD HH:MM:SS
    last_login TIMESTAMP                   -- the same; none before the first sign-in
);

-- One row a token handed out by POST /auth.
CREATE TABLE IF NOT EXISTS auth_logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    request_ip TEXT NOT NULL,              -- the client's address, without port
    request_timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, -- UTC, YYYY-MM-DD HH:MM:SS
    user_id INTEGER REFERENCES users(id)
);
