-- Settings that the service runs by, written at each start, for commands whose
-- own environment may say something else.
CREATE TABLE service_settings (
    name TEXT PRIMARY KEY,                 -- of the environment variable
    value TEXT NOT NULL
);
