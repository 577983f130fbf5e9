-- Tells a restored or copied state from the one that was here: each node remembers lineage and epoch in a file, and home
-- says in which server and database it is. No row: a state from before this migration, or one that nobody has led yet.
CREATE TABLE fence (
    one     BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    lineage TEXT COLLATE "C" NOT NULL,
    epoch   BIGINT NOT NULL CHECK (epoch >= 1),
    home    TEXT COLLATE "C" NOT NULL
);
