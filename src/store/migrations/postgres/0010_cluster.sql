-- Several nodes on one state.

-- Who is at work; a row without a beat for the length of a lease is a node that is gone.
CREATE TABLE nodes (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version    TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    beat_at    BIGINT NOT NULL
);

-- A run that is shared out: from when on there are shares, and by which customers file; the logons refused in a row over
-- all nodes; why a guard stopped it for all.
ALTER TABLE runs ADD COLUMN fleet TEXT COLLATE "C";
ALTER TABLE runs ADD COLUMN refused_row BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN stopped TEXT COLLATE "C";

CREATE TABLE shares (
    run         BIGINT NOT NULL REFERENCES runs (id),
    number      BIGINT NOT NULL,
    customers   TEXT COLLATE "C" NOT NULL,       -- a JSON list of ids
    owner       TEXT COLLATE "C",
    lease_until BIGINT,
    done_at     BIGINT,
    PRIMARY KEY (run, number),
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK (done_at IS NULL OR owner IS NULL)
);
CREATE INDEX shares_left ON shares (run, number) WHERE done_at IS NULL;

-- What each node has seen in a run that is shared out.
CREATE TABLE parts (
    run    BIGINT NOT NULL REFERENCES runs (id),
    owner  TEXT COLLATE "C" NOT NULL,
    report TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run, owner)
);

-- When the next mail may leave by the configured rate, over all nodes.
CREATE TABLE turns (
    name    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    next_at BIGINT NOT NULL
);

-- A node's claims live as long as it beats.
CREATE INDEX deliveries_owner ON deliveries (owner) WHERE owner IS NOT NULL;
CREATE INDEX operator_mails_owner ON operator_mails (owner) WHERE owner IS NOT NULL;
CREATE INDEX cases_round ON cases (round_at);
