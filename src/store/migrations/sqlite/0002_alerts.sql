-- What the operators are told: what happened and what lasts, the mails to them, and the fleet's numbers day by day.

CREATE TABLE alerts (
    id       INTEGER NOT NULL PRIMARY KEY,
    cause    TEXT    NOT NULL,
    key      TEXT    NOT NULL,                            -- what of this cause it is about
    customer TEXT,                                        -- no reference: a row with an error may name anybody
    name     TEXT,
    detail   TEXT    NOT NULL,
    lasts    INTEGER NOT NULL CHECK (lasts IN (0, 1)),    -- 1: told once, until it is over and begins again
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    times    INTEGER NOT NULL CHECK (times >= 1),
    told_at  INTEGER,
    over_at  INTEGER,
    CHECK ((customer IS NULL) = (name IS NULL))
) STRICT;
-- The same thing again before it was told (or while it lasts) is one more of it, not another.
CREATE UNIQUE INDEX alerts_standing ON alerts (cause, key) WHERE over_at IS NULL;
CREATE INDEX alerts_untold ON alerts (cause, id) WHERE told_at IS NULL;
CREATE INDEX alerts_told ON alerts (cause, told_at) WHERE told_at IS NOT NULL;

-- Apart from `deliveries`: no customer, no campaign, and no hold, mode or business hour keeps it back.
CREATE TABLE operator_mails (
    id             INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    key            TEXT    NOT NULL UNIQUE,               -- one digest a day, one alert of the same things
    kind           TEXT    NOT NULL CHECK (kind IN ('alert', 'digest')),
    state          TEXT    NOT NULL CHECK (state IN ('queued', 'sending', 'sent', 'unknown', 'failed')),
    detail         TEXT,
    not_before     INTEGER NOT NULL,
    owner          TEXT,
    lease_until    INTEGER,
    attempts       INTEGER NOT NULL DEFAULT 0,
    blocked        INTEGER NOT NULL DEFAULT 0,            -- attempts that the server refused because of us
    unknown_before INTEGER NOT NULL DEFAULT 0 CHECK (unknown_before IN (0, 1)),
    message_id     TEXT    NOT NULL,
    subject        TEXT    NOT NULL,
    envelope_from  TEXT    NOT NULL,
    recipients     TEXT    NOT NULL CHECK (json_valid(recipients)),   -- [[address, state, reply], ...]
    raw            BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    state_at       INTEGER NOT NULL,
    CHECK ((state = 'sending') = (owner IS NOT NULL)),
    CHECK ((owner IS NULL) = (lease_until IS NULL))
) STRICT;
CREATE INDEX operator_mails_queue ON operator_mails (not_before) WHERE state = 'queued';
CREATE INDEX operator_mails_state ON operator_mails (state);

-- The fleet after the last scan of each civil day: what the burn-down is drawn from.
CREATE TABLE days (
    day                 TEXT    NOT NULL PRIMARY KEY,
    affected            INTEGER NOT NULL,
    switched            INTEGER NOT NULL,
    consent_missing     INTEGER NOT NULL,
    not_exchange_online INTEGER NOT NULL,
    unreadable          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The digest asks what happened since the last one.
CREATE INDEX events_at ON events (at);
