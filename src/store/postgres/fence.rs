//! The fence against a state that is not the one that was here, as far as it can be known of a server's database.
//!
//! Two witnesses. The database carries where it is at home: the server's system identifier and the database's number, which
//! a dump that was restored elsewhere does not share, but a standby that took over does. And each node remembers, in a file
//! of its own, the lineage and the highest epoch it saw; the epoch grows with every start and run of any node, so that a
//! database that was taken back in time (point-in-time recovery, a standby that had lost the last seconds) is older than
//! what some node remembers. Either way it has forgotten what was sent, and holds until a person resumes.
//!
//! A node without such a file is a new node, which is no alarm. Not seen: a database taken back in time when no node is left
//! that saw it before. A major upgrade with pg_upgrade makes a new home: that is seen, and needs one `kigen resume`.
//!
//! Invariants: all of it happens while nobody else writes; the database moves first and the file follows.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::PostgresState;
use crate::domain::Timestamp;

use super::super::sql::{Tx, db, desk, failed};
use super::super::{Result, StoreError};
use super::Postgres;

/// The server and the database; the server's identifier only where the role may ask for it.
pub(in crate::store) const HOME: &str = "SELECT CASE WHEN has_function_privilege('pg_catalog.pg_control_system()', 'execute') \
                 THEN (SELECT system_identifier::text FROM pg_control_system()) ELSE 'unknown' END \
            || '/' || (SELECT oid::text FROM pg_database WHERE datname = current_database())";
pub(in crate::store) const MARK: &str = "SELECT lineage, epoch, home FROM fence WHERE one = 1";
pub(in crate::store) const ADOPT: &str = "INSERT INTO fence (one, lineage, epoch, home) \
     VALUES (1, replace(gen_random_uuid()::text, '-', ''), ?1, ?2) \
     ON CONFLICT (one) DO UPDATE SET lineage = excluded.lineage, epoch = excluded.epoch, home = excluded.home";
pub(in crate::store) const ADVANCE: &str = "UPDATE fence SET epoch = epoch + 1 WHERE one = 1";

/// What the database carries.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Mark {
    lineage: String,
    epoch: i64,
    home: String,
}

/// What this node remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    lineage: String,
    epoch: i64,
}

/// How another state than the one that was here is seen; `None`: it is the one, or the first.
fn judge(mark: Option<&Mark>, seen: Option<&Seen>, home: &str) -> Option<String> {
    match (mark, seen) {
        (None, None) => None,
        (None, Some(_)) => Some("it is empty, and this node has seen one that was not".to_owned()),
        (Some(mark), _) if mark.home != home => {
            Some("it was restored from a dump, or copied from another server or database".to_owned())
        }
        (Some(mark), Some(seen)) if mark.lineage != seen.lineage => {
            Some("it is not the one that this node has seen before".to_owned())
        }
        (Some(mark), Some(seen)) if mark.epoch < seen.epoch => Some(format!(
            "it was taken back in time: it stands at epoch {}, and this node has seen {}",
            mark.epoch, seen.epoch
        )),
        (Some(_), _) => None,
    }
}

/// Asked at every start and with every run: another state than the one that was here is held, and from now on counts as
/// the one. The epoch grows.
pub(super) async fn check(store: &Postgres, now: Timestamp) -> Result<()> {
    const WHAT: &str = "check whose state it is";
    let mut tx = store.write(WHAT).await?;
    let home: String = db::query_scalar(HOME).fetch_one(&mut tx).await.map_err(failed(WHAT))?;
    let mark: Option<Mark> = read_mark(&mut tx, WHAT).await?;
    let seen = read(&store.witness)?;
    let other = judge(mark.as_ref(), seen.as_ref(), &home);
    if let Some(how) = &other {
        let reason = format!(
            "this state is not the one that was here: {how}. What was sent meanwhile it may not know; look at \
             `kigen outbox list` and `kigen plan`, then `kigen resume`"
        );
        desk::hold_restored(&mut tx, &reason, now, WHAT).await?;
    }
    if other.is_some() || mark.is_none() {
        let epoch = mark.map_or(0, |m| m.epoch).max(seen.map_or(0, |s| s.epoch)) + 1;
        db::query(ADOPT).bind(epoch).bind(&home).execute(&mut tx).await.map_err(failed(WHAT))?;
    } else {
        db::query(ADVANCE).execute(&mut tx).await.map_err(failed(WHAT))?;
    }
    let mark = read_mark(&mut tx, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    if let Some(mark) = mark {
        write(&store.witness, &mark);
    }
    Ok(())
}

async fn read_mark(tx: &mut Tx, what: &'static str) -> Result<Option<Mark>> {
    db::query_as(MARK).fetch_optional(&mut *tx).await.map_err(failed(what))
}

/// One file for each database that this node ever had.
pub(super) fn path_of(state: &PostgresState) -> PathBuf {
    let digest = Sha256::digest(state.name());
    let name: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    state.directory.join(format!("postgres-{name}.identity"))
}

fn read(path: &Path) -> Result<Option<Seen>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::File { what: "read", path: path.to_owned(), source }),
    };
    let get = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    // What cannot be read reads as a state that never was: an alarm, rather than none.
    let unreadable = Seen { lineage: String::new(), epoch: 0 };
    let epoch = get("epoch").and_then(|epoch| epoch.parse().ok());
    Ok(Some(get("lineage").zip(epoch).map_or(unreadable, |(l, epoch)| Seen { lineage: l.to_owned(), epoch })))
}

/// A node that cannot write it goes on without this witness, and says so: the others have theirs.
fn write(path: &Path, mark: &Mark) {
    let made = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        // A command run by root must not leave a file that the daemon's user cannot read. Only root can give files away.
        let owner = std::fs::metadata(directory)?;
        let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
        let Mark { lineage, epoch, .. } = mark;
        let intro =
            "# kigen remembers here which state this node saw last, to see when it was restored. Do not back it up.";
        file.write_all(format!("{intro}\nlineage {lineage}\nepoch {epoch}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    if let Err(e) = made() {
        tracing::warn!(path = %path.display(), error = %e, "this node cannot remember which state it saw; see state_directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_the_same_state() {
        let mark = |lineage: &str, epoch| Some(Mark { lineage: lineage.to_owned(), epoch, home: "1/2".to_owned() });
        let seen = |lineage: &str, epoch| Some(Seen { lineage: lineage.to_owned(), epoch });
        let rows = [
            ("the first node of a new database", None, None, "1/2", ""),
            ("a new node", mark("a", 5), None, "1/2", ""),
            ("an ordinary restart", mark("a", 5), seen("a", 5), "1/2", ""),
            ("others ran meanwhile", mark("a", 9), seen("a", 5), "1/2", ""),
            ("a standby that had everything took over: same home", mark("a", 5), seen("a", 5), "1/2", ""),
            ("point-in-time recovery", mark("a", 4), seen("a", 5), "1/2", "epoch 4"),
            ("a dump, restored elsewhere, and a new node", mark("a", 5), None, "1/3", "restored from a dump"),
            ("a dump, restored under the old name", mark("a", 5), seen("a", 5), "7/2", "restored from a dump"),
            ("another kigen's database", mark("b", 9), seen("a", 5), "1/2", "not the one"),
            ("emptied", None, seen("a", 5), "1/2", "empty"),
        ];
        for (sentence, mark, seen, home, expected) in rows {
            let judged = judge(mark.as_ref(), seen.as_ref(), home);
            match (judged, expected) {
                (None, "") => (),
                (Some(how), expected) if !expected.is_empty() && how.contains(expected) => (),
                (judged, _) => panic!("{sentence}: {judged:?}"),
            }
        }
    }
}
