-- The generations of the key-encryption key. The keys themselves are in the key file.
-- `uses` is reserved before it is used, so that a crash never makes it too low.
CREATE TABLE generations (
    id           TEXT PRIMARY KEY,
    state        TEXT NOT NULL,
    uses         INTEGER NOT NULL CHECK (uses >= 0),
    created_at   INTEGER NOT NULL,
    retired_at   INTEGER,
    destroyed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX one_active_generation ON generations (state) WHERE state = 'active';

-- What is sealed says by which generation. A message of these rows names its key behind 51 bytes;
-- the length of that name is the low byte of the length before it, less 20 bytes.
ALTER TABLE setups ADD COLUMN redirect_generation TEXT;
ALTER TABLE payments ADD COLUMN redirect_generation TEXT;
UPDATE setups SET redirect_generation = CAST(substr(redirect, 52,
    (instr('0123456789ABCDEF', substr(hex(substr(redirect, 51, 1)), 1, 1)) - 1) * 16
    + instr('0123456789ABCDEF', substr(hex(substr(redirect, 51, 1)), 2, 1)) - 1 - 20) AS TEXT)
    WHERE redirect IS NOT NULL;
UPDATE payments SET redirect_generation = CAST(substr(redirect, 52,
    (instr('0123456789ABCDEF', substr(hex(substr(redirect, 51, 1)), 1, 1)) - 1) * 16
    + instr('0123456789ABCDEF', substr(hex(substr(redirect, 51, 1)), 2, 1)) - 1 - 20) AS TEXT)
    WHERE redirect IS NOT NULL;

CREATE INDEX accounts_by_generation ON accounts (generation);
CREATE INDEX setups_by_generation ON setups (redirect_generation)
    WHERE redirect_generation IS NOT NULL;
CREATE INDEX payments_by_generation ON payments (redirect_generation)
    WHERE redirect_generation IS NOT NULL;
