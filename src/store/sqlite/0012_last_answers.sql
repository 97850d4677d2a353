-- How the last question about something ended, for a person who must look: words of ours, the
-- provider's code and the id for its support. One row for each object that a question was asked
-- about and left open; nothing depends on it.
CREATE TABLE last_answers (
    account     TEXT NOT NULL,
    object      TEXT PRIMARY KEY,
    said        TEXT NOT NULL,
    code        TEXT,
    correlation TEXT,
    at          INTEGER NOT NULL
) STRICT;
CREATE INDEX last_answers_by_age ON last_answers (at);
