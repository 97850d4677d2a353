-- A record sealed under a generation while its key is at hand: once the key is destroyed, this must not open.
-- It holds words that are the same everywhere.
ALTER TABLE generations ADD COLUMN sample BLOB;
