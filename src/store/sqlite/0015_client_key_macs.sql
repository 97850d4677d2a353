-- Whoever can write to the file could register a public key, and so speak as a client. Each key has
-- a MAC over what it is, whose it is and what that client may do. One from before has none, and
-- counts for nothing: the client registers another.
ALTER TABLE client_keys ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
