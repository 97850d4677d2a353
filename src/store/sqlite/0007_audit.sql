-- The audit log: a chain of lines, each with a MAC over itself and the MAC before it.
CREATE TABLE audit_lines (
    seq         INTEGER PRIMARY KEY,
    head_held   INTEGER NOT NULL CHECK (head_held IN (0, 1)),
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    role        TEXT NOT NULL,
    origin      TEXT NOT NULL,
    action      TEXT NOT NULL,
    object      TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    details     TEXT NOT NULL,
    mac         BLOB NOT NULL
) STRICT;

-- How many lines there are and the MAC of the last, with a MAC of its own: a tail that is cut off
-- is missed.
CREATE TABLE audit_head (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    count       INTEGER NOT NULL,
    last        BLOB NOT NULL,
    mac         BLOB NOT NULL
) STRICT;

-- Lines are added only. These stop a mistake of ours; what stops nobody who owns the file, the
-- MACs show.
CREATE TRIGGER audit_lines_stay BEFORE DELETE ON audit_lines
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_lines_stand BEFORE UPDATE ON audit_lines
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
