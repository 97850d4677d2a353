-- What a person decided about something parked, or what the provider's answer decided instead.
CREATE TABLE resolutions (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    account     TEXT NOT NULL REFERENCES accounts (account),
    payment     TEXT NOT NULL REFERENCES payments (id),
    object      TEXT NOT NULL,
    wanted      TEXT NOT NULL,
    ended       TEXT NOT NULL,
    decided_by  TEXT NOT NULL,
    provider_said TEXT NOT NULL,
    person      TEXT NOT NULL,
    note        TEXT NOT NULL,
    at          INTEGER NOT NULL
) STRICT;
CREATE INDEX resolutions_by_payment ON resolutions (payment);

-- Listings over all accounts, and what a person must look at.
CREATE INDEX payments_by_time ON payments (created_at, id);
CREATE INDEX parked_payments ON payments (id) WHERE state = 'parked';
CREATE INDEX parked_operations ON operations (payment) WHERE state = 'parked';
