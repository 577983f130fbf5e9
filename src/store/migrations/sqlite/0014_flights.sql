-- Mails on the wire, or just off it: written here first, in one statement between two mails of a connection, and landed soon
-- in deliveries, attempts, recipients and events, many at once. Whoever opens the file after a crash lands what is left.
CREATE TABLE flights (
    delivery    INTEGER NOT NULL PRIMARY KEY REFERENCES deliveries (id),
    owner       TEXT    NOT NULL,
    began_at    INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    taken_at    INTEGER,                                  -- the server took it, for everybody it went to
    reply       TEXT,
    recipients  TEXT    CHECK (json_valid(recipients)),   -- [[address, state, reply], ...]
    CHECK ((taken_at IS NULL) = (reply IS NULL) AND (taken_at IS NULL) = (recipients IS NULL))
) STRICT;
