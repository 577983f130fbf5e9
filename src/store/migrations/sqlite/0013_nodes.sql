-- The same tables as PostgreSQL's of this number, which says what they are for; one process needs no waking.
CREATE TABLE hosts (
    scope   TEXT NOT NULL,
    host    TEXT NOT NULL,
    told_at INTEGER NOT NULL,
    until   INTEGER,
    probes  INTEGER NOT NULL DEFAULT 0,
    reason  TEXT,
    detail  TEXT,
    PRIMARY KEY (scope, host),
    CHECK ((reason IS NULL) = (detail IS NULL)),
    CHECK (until IS NULL OR reason IS NULL)
) STRICT, WITHOUT ROWID;

ALTER TABLE nodes ADD COLUMN resting INTEGER NOT NULL DEFAULT 0 CHECK (resting IN (0, 1));
