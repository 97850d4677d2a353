-- A method keeps its id for good; its handle, which callers know, can be replaced. The one before
-- stays good until its time ends.
ALTER TABLE payment_methods ADD COLUMN handle TEXT NOT NULL DEFAULT '';
UPDATE payment_methods SET handle = id;
CREATE UNIQUE INDEX payment_methods_by_handle ON payment_methods (handle);

CREATE TABLE old_handles (
    account     TEXT NOT NULL,
    handle      TEXT PRIMARY KEY,
    method      TEXT NOT NULL REFERENCES payment_methods (id) ON DELETE CASCADE,
    ends_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX old_handles_by_method ON old_handles (method);
CREATE INDEX old_handles_by_end ON old_handles (ends_at);

-- The handle that a payment was asked for under: it reads so for good.
ALTER TABLE payments ADD COLUMN handle TEXT;
UPDATE payments SET handle = method WHERE method IS NOT NULL;

-- The handle that the event's object replaces.
ALTER TABLE events ADD COLUMN replaces TEXT;
