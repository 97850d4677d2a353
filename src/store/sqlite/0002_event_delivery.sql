-- How far the events have been delivered to the billing service: all up to `delivered` are either
-- acknowledged or dead. There is one row; attempts and times are those of the event after it.
CREATE TABLE event_delivery (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    delivered   INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    next_at     INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    version     INTEGER NOT NULL
) STRICT;
INSERT INTO event_delivery (id, delivered, attempts, next_at, lease_until, version)
    VALUES (1, 0, 0, 0, 0, 0);

-- Events that were given up. They stay in `events`.
CREATE TABLE dead_events (
    seq         INTEGER PRIMARY KEY REFERENCES events (seq),
    attempts    INTEGER NOT NULL,
    dead_at     INTEGER NOT NULL
) STRICT;
