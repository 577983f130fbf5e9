//! Where PostgreSQL reads a statement otherwise than SQLite. The statements are written once, in what both understand;
//! this page is all the difference there is (besides the schema, which gives PostgreSQL a `json_each`, see
//! `migrations/postgres/0001_state.sql`).
//!
//! - Parameters: `?1` is `$1`.
//! - `SELECT value FROM json_each(?1)`, a list of texts: SQLite gives texts, PostgreSQL would give JSON. (A list of numbers
//!   is written `CAST(value AS BIGINT)`, a column of a list of rows `value ->> 0`, a number among them with a cast.)
//! - `jsonb_each(?1)`, a list of rows: on SQLite each row comes parsed, so that its columns are looked up and not each parsed
//!   anew from the row's text (which was half of what sending a mail cost); on PostgreSQL it is `json_each`.
//! - `CROSS JOIN … ON`: SQLite's word for "in this order"; PostgreSQL plans by itself and wants `JOIN`.
//! - `INDEXED BY name`, `NOT INDEXED`: SQLite's hints, dropped.
//! - `/*postgres: …*/`: what only PostgreSQL reads (row locks, a parameter's type); to SQLite, where one connection writes, it is
//!   a comment.
//!
//! Invariant: pure text to text; a text literal in a statement holds none of these.

/// The statement for PostgreSQL.
pub(in crate::store) fn postgres(sql: &str) -> String {
    let mut text = sql.replace('?', "$").replace("CROSS JOIN", "JOIN").replace("/*postgres:", "");
    text = text.replace("jsonb_each(", "json_each(").replace(" NOT INDEXED", "");
    text = text.replace("*/", "").replace("SELECT value FROM json_each(", "SELECT value #>> '{}' FROM json_each(");
    while let Some(start) = text.find(" INDEXED BY ") {
        let name = start + " INDEXED BY ".len();
        let end = text[name..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(text.len(), |n| name + n);
        text.replace_range(start..end, "");
    }
    text
}

/// The text as PostgreSQL can keep it: it refuses U+0000 (SQLite does not), and an admin tool's page may hold one.
pub(in crate::store) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_reads() {
        let rows = [
            ("parameters", "SELECT ?1, ?12", "SELECT $1, $12"),
            ("the order of a join", "FROM a CROSS JOIN b ON b.x = a.x", "FROM a JOIN b ON b.x = a.x"),
            ("an index by name", "FROM events AS e INDEXED BY events_at WHERE", "FROM events AS e WHERE"),
            ("an index by name at the end", "FROM events INDEXED BY events_at", "FROM events"),
            (
                "a list of texts",
                "id IN (SELECT value FROM json_each(?1))",
                "id IN (SELECT value #>> '{}' FROM json_each($1))",
            ),
            ("no index", "UPDATE a NOT INDEXED SET b = 1", "UPDATE a SET b = 1"),
            ("a list of rows", "SELECT value ->> 0 FROM jsonb_each(?1)", "SELECT value ->> 0 FROM json_each($1)"),
            ("a lock", "LIMIT 1 /*postgres: FOR UPDATE SKIP LOCKED*/)", "LIMIT 1  FOR UPDATE SKIP LOCKED)"),
        ];
        for (sentence, sqlite, expected) in rows {
            assert_eq!(postgres(sqlite), expected, "{sentence}");
        }
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
    }
}
