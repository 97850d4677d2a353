-- What the clock of the machine showed when it was last looked at: one row, which goes back with it. Until
-- it is written anew, the newest of what has an age tells.
CREATE TABLE clock_seen (
    at INTEGER NOT NULL
) STRICT;
INSERT INTO clock_seen
SELECT max(at) FROM (
    SELECT max(created_at) AS at FROM request_keys
    UNION ALL SELECT max(received_at) FROM webhooks
    UNION ALL SELECT max(at) FROM events
    UNION ALL SELECT max(created_at) FROM payments
) HAVING max(at) IS NOT NULL;
