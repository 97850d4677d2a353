-- A client's API key can be replaced; the one before stays good until its time ends. There is one
-- such at most, so that no client has more than two live keys.
ALTER TABLE clients ADD COLUMN key_since INTEGER NOT NULL DEFAULT 0;
UPDATE clients SET key_since = created_at;

CREATE TABLE old_api_keys (
    client      TEXT PRIMARY KEY REFERENCES clients (name) ON DELETE CASCADE,
    key_hash    BLOB NOT NULL UNIQUE,
    since       INTEGER NOT NULL,
    ends_at     INTEGER NOT NULL
) STRICT;
