-- What came back: contacts whose address is dead, and the reports that were read.

-- No address stands here: a digest recognises it, the masked form is for people.
CREATE TABLE dead_contacts (
    customer    TEXT    NOT NULL REFERENCES customers (id),
    fingerprint TEXT    NOT NULL,
    masked      TEXT    NOT NULL,
    since       INTEGER NOT NULL,
    why         TEXT    NOT NULL,
    delivery    INTEGER NOT NULL,   -- the one that came back
    PRIMARY KEY (customer, fingerprint)
) STRICT, WITHOUT ROWID;

-- A report may be fetched twice: its digest says that it was dealt with.
CREATE TABLE bounces (
    digest TEXT    NOT NULL PRIMARY KEY,
    at     INTEGER NOT NULL,
    class  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_message_id ON deliveries (message_id);
CREATE INDEX cases_reference ON cases (reference);
