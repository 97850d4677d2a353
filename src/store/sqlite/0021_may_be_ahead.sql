-- By how much the clock that was seen may be ahead, in milliseconds: for as long as nobody had looked at it
-- before. 0 once what is open is taken for sent since.
ALTER TABLE clock_seen ADD COLUMN may_be_ahead INTEGER NOT NULL DEFAULT 0;
