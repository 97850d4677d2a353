-- Erasures: jobs while `account` is there, receipts afterwards. `subject` is a keyed hash of the
-- account's id under a key that nothing else is hashed with.
CREATE TABLE erasures (
    id           TEXT PRIMARY KEY,
    subject      BLOB NOT NULL,
    account      TEXT,
    report       TEXT,
    requested_at INTEGER NOT NULL,
    erased_at    INTEGER,
    next_at      INTEGER,
    attempts     INTEGER NOT NULL,
    lease_until  INTEGER NOT NULL,
    version      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_open_erasure ON erasures (account) WHERE account IS NOT NULL;
CREATE INDEX erasures_by_subject ON erasures (subject, requested_at);
CREATE INDEX due_erasures ON erasures (next_at) WHERE next_at IS NOT NULL;

-- A key whose account was erased: a repeat is refused, and nothing else is known of it.
ALTER TABLE request_keys ADD COLUMN erased INTEGER NOT NULL DEFAULT 0 CHECK (erased IN (0, 1));

-- What belongs to an account is found by it.
CREATE INDEX setups_by_account ON setups (account, id);
CREATE INDEX events_by_account ON events (account, seq);
CREATE INDEX resolutions_by_account ON resolutions (account);
