-- The sealed exchange. A sealed client has no API key that anybody knows; it has public keys. A row
-- of a key stays when the key is revoked, so that neither name nor key comes back.
ALTER TABLE clients ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0 CHECK (sealed IN (0, 1));

CREATE TABLE client_keys (
    kid         TEXT PRIMARY KEY,
    client      TEXT NOT NULL REFERENCES clients (name),
    thumbprint  TEXT NOT NULL UNIQUE,
    usage       TEXT NOT NULL,
    point       BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;
CREATE INDEX client_keys_by_client ON client_keys (client);

-- Generations of the service's own keys. The keys are derived from the key file, not kept.
CREATE TABLE exchange_generations (
    id          TEXT PRIMARY KEY,
    created_at  INTEGER NOT NULL
) STRICT;

-- Messages that were taken: each counts once, for all processes on this store.
CREATE TABLE exchange_messages (
    client      TEXT NOT NULL,
    jti         BLOB NOT NULL,
    forget_at   INTEGER NOT NULL,
    PRIMARY KEY (client, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX exchange_messages_by_age ON exchange_messages (forget_at);
