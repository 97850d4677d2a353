-- What is kept. Times are milliseconds since 1970 (UTC), amounts are minor units of ISO 4217.
-- Every table that belongs to an account starts with its pseudonym, so that it can be partitioned.

CREATE TABLE accounts (
    account     TEXT PRIMARY KEY,
    sealed_id   BLOB NOT NULL,
    generation  TEXT NOT NULL,
    restricted  INTEGER NOT NULL DEFAULT 0 CHECK (restricted IN (0, 1)),
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE records (
    account     TEXT NOT NULL REFERENCES accounts (account),
    id          TEXT PRIMARY KEY,
    provider    TEXT NOT NULL,
    merchant    TEXT NOT NULL,
    generation  TEXT NOT NULL,
    sealed      BLOB NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX records_by_generation ON records (generation);

CREATE TABLE payment_methods (
    account     TEXT NOT NULL REFERENCES accounts (account),
    id          TEXT PRIMARY KEY,
    provider    TEXT NOT NULL,
    record      TEXT REFERENCES records (id),
    state       TEXT NOT NULL,
    is_default  INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    created_at  INTEGER NOT NULL,
    next_at     INTEGER,
    attempts    INTEGER NOT NULL,
    version     INTEGER NOT NULL
) STRICT;
CREATE INDEX payment_methods_by_account ON payment_methods (account, created_at);
CREATE UNIQUE INDEX one_default_method ON payment_methods (account) WHERE is_default = 1;
CREATE INDEX due_payment_methods ON payment_methods (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE setups (
    account          TEXT NOT NULL REFERENCES accounts (account),
    id               TEXT PRIMARY KEY,
    provider         TEXT NOT NULL,
    state            TEXT NOT NULL,
    return_url       TEXT NOT NULL,
    language         TEXT,
    reference        TEXT,
    redirect         BLOB,
    payment          TEXT,
    method           TEXT,
    decline_category TEXT,
    decline_retry    TEXT,
    decline_code     TEXT,
    expires_at       INTEGER NOT NULL,
    next_at          INTEGER,
    attempts         INTEGER NOT NULL,
    lease_until      INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    version          INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX setups_by_reference ON setups (provider, reference) WHERE reference IS NOT NULL;
CREATE INDEX due_setups ON setups (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE payments (
    account          TEXT NOT NULL REFERENCES accounts (account),
    id               TEXT PRIMARY KEY,
    provider         TEXT NOT NULL,
    method           TEXT,
    setup            TEXT,
    reference        TEXT NOT NULL,
    description      TEXT,
    return_url       TEXT,
    currency         TEXT NOT NULL,
    amount           INTEGER NOT NULL CHECK (amount > 0),
    capture          TEXT NOT NULL,
    initiator        TEXT NOT NULL,
    state            TEXT NOT NULL,
    step             TEXT NOT NULL,
    closing_as       TEXT,
    reservation      TEXT,
    authorization_id TEXT,
    capture_object   TEXT,
    commit_round     INTEGER NOT NULL,
    authorized       INTEGER NOT NULL CHECK (authorized >= 0),
    captured         INTEGER NOT NULL CHECK (captured >= 0),
    reserved_capture INTEGER NOT NULL CHECK (reserved_capture >= 0),
    refunded         INTEGER NOT NULL CHECK (refunded >= 0),
    reserved_refund  INTEGER NOT NULL CHECK (reserved_refund >= 0),
    reversed         INTEGER NOT NULL CHECK (reversed >= 0),
    body_mac         BLOB,
    first_sent_at    INTEGER,
    last_sent_at     INTEGER,
    redirect         BLOB,
    decline_category TEXT,
    decline_retry    TEXT,
    decline_code     TEXT,
    failure          TEXT,
    reason           TEXT,
    expires_at       INTEGER,
    next_at          INTEGER,
    attempts         INTEGER NOT NULL,
    lease_until      INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    accepted_at      INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    -- The ceilings: what open operations may still take or give back never exceeds what is left.
    CHECK (reserved_capture = 0 OR captured + reserved_capture <= authorized),
    CHECK (reserved_refund = 0 OR refunded + reserved_refund <= captured)
) STRICT;
CREATE UNIQUE INDEX one_open_payment ON payments (account, reference)
    WHERE state IN ('unknown', 'pending', 'action_required', 'parked');
CREATE UNIQUE INDEX payments_by_reservation ON payments (provider, reservation)
    WHERE reservation IS NOT NULL;
CREATE INDEX payments_by_authorization ON payments (provider, authorization_id)
    WHERE authorization_id IS NOT NULL;
CREATE INDEX payments_by_capture ON payments (provider, capture_object)
    WHERE capture_object IS NOT NULL;
CREATE INDEX payments_by_account ON payments (account, created_at);
CREATE INDEX due_payments ON payments (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX open_payments ON payments (id) WHERE step <> 'settled';

CREATE TABLE operations (
    account          TEXT NOT NULL REFERENCES accounts (account),
    id               TEXT PRIMARY KEY,
    payment          TEXT NOT NULL REFERENCES payments (id),
    provider         TEXT NOT NULL,
    kind             TEXT NOT NULL,
    currency         TEXT NOT NULL,
    amount           INTEGER NOT NULL CHECK (amount >= 0),
    last             INTEGER NOT NULL CHECK (last IN (0, 1)),
    state            TEXT NOT NULL,
    object           TEXT,
    capture_object   TEXT,
    settled_before   INTEGER NOT NULL,
    failure          TEXT,
    first_sent_at    INTEGER NOT NULL,
    last_sent_at     INTEGER NOT NULL,
    next_at          INTEGER,
    attempts         INTEGER NOT NULL,
    lease_until      INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    version          INTEGER NOT NULL
) STRICT;
CREATE INDEX operations_by_payment ON operations (payment, created_at);
CREATE INDEX operations_by_object ON operations (provider, object) WHERE object IS NOT NULL;
CREATE INDEX due_operations ON operations (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX open_operations ON operations (id) WHERE state IN ('pending', 'unknown');

CREATE TABLE request_keys (
    client      TEXT NOT NULL,
    key         BLOB NOT NULL,
    digest      BLOB NOT NULL,
    object      TEXT NOT NULL,
    answer      TEXT,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (client, key)
) STRICT;
-- A void that closes an open payment is answered by the payment, as the call that made it.
CREATE INDEX request_keys_by_object ON request_keys (object);
CREATE INDEX request_keys_by_age ON request_keys (created_at);

CREATE TABLE events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    account     TEXT NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    object      TEXT NOT NULL,
    at          INTEGER NOT NULL
) STRICT;

CREATE TABLE webhooks (
    provider    TEXT NOT NULL,
    event       TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (provider, event)
) STRICT;
CREATE INDEX webhooks_by_age ON webhooks (received_at);

CREATE TABLE clients (
    name        TEXT PRIMARY KEY,
    role        TEXT NOT NULL,
    key_hash    BLOB NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;
