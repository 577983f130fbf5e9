-- What came back: contacts whose address is dead, and the reports that were read.

-- No address stands here: a digest recognises it, the masked form is for people.
CREATE TABLE dead_contacts (
    customer    TEXT COLLATE "C" NOT NULL REFERENCES customers (id),
    fingerprint TEXT COLLATE "C" NOT NULL,
    masked      TEXT COLLATE "C" NOT NULL,
    since       BIGINT NOT NULL,
    why         TEXT COLLATE "C" NOT NULL,
    delivery    BIGINT NOT NULL,   -- the one that came back
    PRIMARY KEY (customer, fingerprint)
);

-- A report may be fetched twice: its digest says that it was dealt with.
CREATE TABLE bounces (
    digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    at     BIGINT NOT NULL,
    class  TEXT COLLATE "C" NOT NULL
);

CREATE INDEX deliveries_message_id ON deliveries (message_id);
CREATE INDEX cases_reference ON cases (reference);
