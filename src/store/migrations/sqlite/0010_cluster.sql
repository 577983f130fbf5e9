-- Several nodes on one state. (On SQLite there is one; the tables are there so that both databases are the same.)

-- Who is at work; a row without a beat for the length of a lease is a node that is gone.
CREATE TABLE nodes (
    name       TEXT    NOT NULL PRIMARY KEY,
    version    TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    beat_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A run that is shared out: from when on there are shares, and by which customers file; the logons refused in a row over
-- all nodes; why a guard stopped it for all.
ALTER TABLE runs ADD COLUMN fleet TEXT;
ALTER TABLE runs ADD COLUMN refused_row INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN stopped TEXT;

CREATE TABLE shares (
    run         INTEGER NOT NULL REFERENCES runs (id),
    number      INTEGER NOT NULL,
    customers   TEXT    NOT NULL,       -- a JSON list of ids
    owner       TEXT,
    lease_until INTEGER,
    done_at     INTEGER,
    PRIMARY KEY (run, number),
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK (done_at IS NULL OR owner IS NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX shares_left ON shares (run, number) WHERE done_at IS NULL;

-- What each node has seen in a run that is shared out.
CREATE TABLE parts (
    run    INTEGER NOT NULL REFERENCES runs (id),
    owner  TEXT    NOT NULL,
    report TEXT    NOT NULL,
    PRIMARY KEY (run, owner)
) STRICT, WITHOUT ROWID;

-- When the next mail may leave by the configured rate, over all nodes.
CREATE TABLE turns (
    name    TEXT    NOT NULL PRIMARY KEY,
    next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A node's claims live as long as it beats.
CREATE INDEX deliveries_owner ON deliveries (owner) WHERE owner IS NOT NULL;
CREATE INDEX operator_mails_owner ON operator_mails (owner) WHERE owner IS NOT NULL;
CREATE INDEX cases_round ON cases (round_at);
