-- Tells a restored or copied state from the one that was here: the same lineage and epoch stand in the file
-- <state>.identity. No row: a state from before this migration, or one that nobody has led yet.
CREATE TABLE fence (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    lineage TEXT    NOT NULL,
    epoch   INTEGER NOT NULL CHECK (epoch >= 1)
) STRICT;
