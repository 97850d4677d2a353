-- In which way a provider is worked with: what was begun in one can't be ended in another. NULL until
-- somebody has said so.
ALTER TABLE merchants ADD COLUMN mode TEXT;
DELETE FROM merchants WHERE provider LIKE '% mode';
