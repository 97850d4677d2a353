-- Whether a record that was sealed under a generation was tried when that was destroyed, and did not open.
-- Of those that were destroyed before this was kept, nobody says so.
ALTER TABLE generations ADD COLUMN tried INTEGER NOT NULL DEFAULT 0;
