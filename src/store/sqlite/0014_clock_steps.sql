-- How far the clock of the machine has jumped, and when (by the clock after it): each jump is
-- reckoned with once, whoever notices it.
CREATE TABLE clock_steps (
    at INTEGER NOT NULL,
    millis INTEGER NOT NULL
) STRICT;
CREATE INDEX clock_steps_by_age ON clock_steps (at);
