-- How much of what went back at the provider, and does not stand in the books, an event has told of: it
-- is told once.
ALTER TABLE payments ADD COLUMN returned_told INTEGER NOT NULL DEFAULT 0 CHECK (returned_told >= 0);
