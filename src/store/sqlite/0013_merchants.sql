-- At which merchant of each provider everything is that is kept: a question asked at another one
-- would find nothing, and prove nothing.
CREATE TABLE merchants (
    provider    TEXT PRIMARY KEY,
    merchant    TEXT NOT NULL,
    since       INTEGER NOT NULL
) STRICT;
