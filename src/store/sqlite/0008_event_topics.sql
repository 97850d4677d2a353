-- What an event is about: the payment for its captures, voids and refunds, else its own object.
-- Events of one topic are delivered in the order of their writing; other topics do not wait.
ALTER TABLE events ADD COLUMN topic TEXT NOT NULL DEFAULT '';
UPDATE events SET topic = coalesce((SELECT payment FROM operations WHERE id = object), object);
CREATE INDEX events_by_topic ON events (topic, seq);
CREATE INDEX events_by_age ON events (at);

-- Topics whose delivery is behind, each with the event that is sent next. Every event up to
-- `delivered` is acknowledged, or dead, or stands here, or waits behind one of its topic here. An
-- event that a person sends again stands under its own id and holds up nothing.
CREATE TABLE held_topics (
    topic       TEXT PRIMARY KEY,
    seq         INTEGER NOT NULL REFERENCES events (seq),
    attempts    INTEGER NOT NULL,
    next_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX held_topics_by_event ON held_topics (seq);

-- What was in back-off goes on there.
INSERT INTO held_topics (topic, seq, attempts, next_at)
    SELECT topic, seq, attempts, next_at FROM event_delivery, events
    WHERE attempts > 0 AND seq = (SELECT min(seq) FROM events WHERE seq > delivered);
UPDATE event_delivery SET delivered = coalesce((SELECT seq FROM held_topics), delivered);
ALTER TABLE event_delivery DROP COLUMN attempts;
ALTER TABLE event_delivery DROP COLUMN next_at;
