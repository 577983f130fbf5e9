-- The state of kigen. Instants are UNIX milliseconds (UTC), civil days are YYYY-MM-DD, words are those of the contract.

PRAGMA application_id = 0x6b69676e; -- "kign": another program's database is refused

CREATE TABLE customers (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    version       INTEGER NOT NULL DEFAULT 0,   -- one more with every change of its sites, cases or deliveries
    refused_at    INTEGER,                      -- the last logon, if it was refused
    refused_entry TEXT,                         -- the entry's fingerprint then
    heard_at      INTEGER NOT NULL,
    gone_at       INTEGER,                      -- not in the customers file any more
    CHECK ((refused_at IS NULL) = (refused_entry IS NULL))
) STRICT, WITHOUT ROWID;

-- The history of what was seen: one row a change, not one a look.
CREATE TABLE observations (
    id              INTEGER NOT NULL PRIMARY KEY,
    customer        TEXT    NOT NULL REFERENCES customers (id),
    site            TEXT    NOT NULL,           -- '' for a customer none of whose sites could be listed
    verdict         TEXT    NOT NULL CHECK (verdict IN ('affected', 'switched', 'consent_missing', 'not_exchange_online', 'unreadable')),
    reason          TEXT,
    server_type     TEXT    CHECK (server_type IN ('exchange_online', 'on_premises')),
    auth_method     TEXT    CHECK (auth_method IN ('basic', 'oauth', 'on_premises_basic')),
    raw_server_type TEXT,
    raw_auth_method TEXT,
    detail          TEXT,
    first_seen_at   INTEGER NOT NULL,
    last_seen_at    INTEGER NOT NULL,
    CHECK ((verdict = 'unreadable') = (reason IS NOT NULL))
) STRICT;
CREATE INDEX observations_customer ON observations (customer);

CREATE TABLE sites (
    customer         TEXT    NOT NULL REFERENCES customers (id),
    site             TEXT    NOT NULL,
    listed           INTEGER NOT NULL CHECK (listed IN (0, 1)),
    observation      INTEGER NOT NULL REFERENCES observations (id),   -- the newest
    unreadable_scans INTEGER NOT NULL CHECK (unreadable_scans >= 0),
    PRIMARY KEY (customer, site)
) STRICT, WITHOUT ROWID;
CREATE INDEX sites_observation ON sites (observation);

CREATE TABLE cases (
    customer    TEXT    NOT NULL REFERENCES customers (id),
    campaign    TEXT    NOT NULL,
    reference   TEXT    NOT NULL,
    round       INTEGER NOT NULL CHECK (round >= 1),
    state       TEXT    NOT NULL CHECK (state IN ('open', 'resolved')),
    resolved_at INTEGER,
    opened_at   INTEGER NOT NULL,
    round_at    INTEGER NOT NULL,
    PRIMARY KEY (customer, campaign),
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX cases_open ON cases (customer, campaign) WHERE state = 'open';

CREATE TABLE case_sites (
    customer               TEXT    NOT NULL,
    campaign               TEXT    NOT NULL,
    site                   TEXT    NOT NULL,
    standing               TEXT    NOT NULL CHECK (standing IN ('affected', 'consent_missing', 'clear')),
    since                  INTEGER NOT NULL,
    clear_scans            INTEGER NOT NULL,
    absent_scans           INTEGER NOT NULL,
    now_observed_at        INTEGER NOT NULL,
    now_server_type        TEXT,
    now_auth_method        TEXT,
    now_raw_server_type    TEXT,
    now_raw_auth_method    TEXT,
    before_observed_at     INTEGER NOT NULL,
    before_server_type     TEXT,
    before_auth_method     TEXT,
    before_raw_server_type TEXT,
    before_raw_auth_method TEXT,
    PRIMARY KEY (customer, campaign, site),
    FOREIGN KEY (customer, campaign) REFERENCES cases (customer, campaign)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id             INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    customer       TEXT    NOT NULL,
    campaign       TEXT    NOT NULL,
    round          INTEGER NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('regressed', 'first', 'rescheduled', 'overdue', 'reminder', 'consent', 'resolved')),
    occasion       TEXT    NOT NULL,
    milestone      TEXT,
    day            TEXT    NOT NULL,
    deadline       TEXT    NOT NULL,
    because        TEXT    NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN ('held', 'queued', 'sending', 'sent', 'unknown', 'failed', 'dropped')),
    held           TEXT    CHECK (held IN ('review', 'cap', 'hold', 'unknown')),
    cancelled      INTEGER NOT NULL DEFAULT 0 CHECK (cancelled IN (0, 1)),   -- dropped by a person: counts as had
    detail         TEXT,
    not_before     INTEGER NOT NULL,
    priority       INTEGER NOT NULL,
    owner          TEXT,
    lease_until    INTEGER,
    attempts       INTEGER NOT NULL DEFAULT 0,
    unknown_before INTEGER NOT NULL DEFAULT 0 CHECK (unknown_before IN (0, 1)),
    message_id     TEXT    NOT NULL,
    subject        TEXT    NOT NULL,
    envelope_from  TEXT    NOT NULL,
    rendered_for   TEXT    NOT NULL,
    evidence_at    INTEGER NOT NULL,
    sites          TEXT    NOT NULL CHECK (json_valid(sites)),
    created_at     INTEGER NOT NULL,
    state_at       INTEGER NOT NULL,
    approved_by    TEXT,
    approved_at    INTEGER,
    FOREIGN KEY (customer, campaign) REFERENCES cases (customer, campaign),
    CHECK ((state = 'held') = (held IS NOT NULL)),
    CHECK (cancelled = 0 OR state = 'dropped'),
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK (owner IS NULL OR state IN ('queued', 'sending')),
    CHECK (owner IS NOT NULL OR state <> 'sending'),
    CHECK ((approved_by IS NULL) = (approved_at IS NULL))
) STRICT;
-- Once: the same notice cannot stand here twice, unless the earlier one was overtaken before it left.
CREATE UNIQUE INDEX deliveries_key ON deliveries (customer, campaign, round, kind, occasion)
    WHERE state <> 'dropped' OR cancelled = 1;
-- The queue in the order it is worked off; holds all that the claim asks for.
CREATE INDEX deliveries_queue ON deliveries (priority, id, not_before, lease_until, approved_at) WHERE state = 'queued';
CREATE INDEX deliveries_state ON deliveries (state, held);
CREATE INDEX deliveries_customer ON deliveries (customer, campaign);

-- Apart from deliveries, whose rows change with every attempt: the bytes do not.
CREATE TABLE messages (
    delivery INTEGER NOT NULL PRIMARY KEY REFERENCES deliveries (id),
    raw      BLOB    NOT NULL
) STRICT;

CREATE TABLE recipients (
    delivery INTEGER NOT NULL REFERENCES deliveries (id),
    position INTEGER NOT NULL,
    address  TEXT    NOT NULL,
    state    TEXT    NOT NULL CHECK (state IN ('pending', 'accepted', 'rejected')),
    reply    TEXT,
    PRIMARY KEY (delivery, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    delivery    INTEGER NOT NULL REFERENCES deliveries (id),
    number      INTEGER NOT NULL,
    owner       TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    outcome     TEXT    CHECK (outcome IN ('accepted', 'deferred', 'rejected', 'unknown', 'blocked')),
    reply       TEXT,
    PRIMARY KEY (delivery, number),
    CHECK ((finished_at IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_started ON attempts (started_at);

CREATE TABLE runs (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind        TEXT    NOT NULL CHECK (kind IN ('scan', 'notices', 'digest', 'bounces')),
    due_at      INTEGER,
    owner       TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    finished_at INTEGER,
    outcome     TEXT    CHECK (outcome IN ('done', 'interrupted', 'failed')),
    customers   INTEGER NOT NULL DEFAULT 0,
    sites       INTEGER NOT NULL DEFAULT 0,
    unreadable  INTEGER NOT NULL DEFAULT 0,
    queued      INTEGER NOT NULL DEFAULT 0,
    held        INTEGER NOT NULL DEFAULT 0,
    detail      TEXT,
    CHECK ((finished_at IS NULL) = (outcome IS NULL))
) STRICT;
-- One of a kind at a time, and each schedule time to its end once.
CREATE UNIQUE INDEX runs_alive ON runs (kind) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX runs_done ON runs (kind, due_at) WHERE outcome = 'done';
CREATE INDEX runs_kind ON runs (kind, outcome);

CREATE TABLE holds (
    kind   TEXT    NOT NULL PRIMARY KEY CHECK (kind IN ('paused', 'newly_affected', 'restored')),
    reason TEXT    NOT NULL,
    set_by TEXT    NOT NULL,
    set_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was decided and what became of it, in words; written in the transaction that did it and never changed.
CREATE TABLE events (
    id       INTEGER NOT NULL PRIMARY KEY,
    at       INTEGER NOT NULL,
    customer TEXT    REFERENCES customers (id),   -- NULL: it concerns all
    campaign TEXT,
    delivery INTEGER REFERENCES deliveries (id),
    what     TEXT    NOT NULL CHECK (what IN ('decided', 'sent')),
    word     TEXT    NOT NULL,
    text     TEXT    NOT NULL
) STRICT;
CREATE INDEX events_customer ON events (customer);

CREATE TABLE memos (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
