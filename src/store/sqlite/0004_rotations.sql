-- What is being rotated, and how far it is. `place` is where an interrupted one goes on; `parameter`
-- is what it was begun with. A worker that lives renews its lease with each batch, in the
-- transaction of the batch.
CREATE TABLE rotations (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    parameter   TEXT NOT NULL,
    place       TEXT NOT NULL,
    done        INTEGER NOT NULL CHECK (done >= 0),
    total       INTEGER NOT NULL CHECK (total >= 0),
    lease_until INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    version     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_open_rotation ON rotations (kind) WHERE ended_at IS NULL;
