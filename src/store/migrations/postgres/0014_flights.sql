-- See the same file for SQLite, which alone writes here: PostgreSQL's writers need not take turns.
CREATE TABLE flights (
    delivery    BIGINT NOT NULL PRIMARY KEY REFERENCES deliveries (id),
    owner       TEXT   NOT NULL,
    began_at    BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    taken_at    BIGINT,
    reply       TEXT,
    recipients  TEXT,
    CHECK ((taken_at IS NULL) = (reply IS NULL) AND (taken_at IS NULL) = (recipients IS NULL))
);
