//! The fence against a state that is not the one that was here: a restored backup, a copy on a second machine. Such a
//! state has forgotten what was sent (or somebody else goes on sending from it), so it holds until a person resumes.
//!
//! The database and a small file beside it, `<state>.identity`, carry the same random lineage and an epoch. The epoch
//! grows when somebody takes the lead, with every run, with every backup, and at the end; a database whose epoch is older
//! than the file's was restored. The file also says which files the two are (inode and birth, which no way of copying
//! keeps) and on which machine, so that a copy of both is seen too. It is not a matter of clocks: nothing here compares times.
//!
//! Not seen: a whole disk or virtual machine that was rolled back or cloned with its machine id, for then no witness is left.
//!
//! Invariants: the database moves first and the file follows, so that a crash in between looks like a database that is
//! newer, which is no alarm; whoever finds a stranger (a backup command, say) leaves both alone for the next leader to see.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::domain::Timestamp;

use super::super::sql::{Tx, db, desk, failed};
use super::super::{Result, StoreError};
use super::Sqlite;
use super::lock::give_to_owner_of;

pub(in crate::store) const MARK: &str = "SELECT lineage, epoch FROM fence WHERE one = 1";
pub(in crate::store) const ADOPT: &str = "INSERT INTO fence (one, lineage, epoch) VALUES (1, ?1, ?2) \
     ON CONFLICT (one) DO UPDATE SET lineage = excluded.lineage, epoch = excluded.epoch";
pub(in crate::store) const ADVANCE: &str = "UPDATE fence SET epoch = epoch + 1 WHERE one = 1";

/// What both carry.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Mark {
    lineage: String,
    epoch: i64,
}

/// Which file it is, whatever its name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    /// Nanoseconds; where the file system knows it, it decides alone: inodes are used again.
    born: Option<u128>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        Self { inode: metadata.ino(), born: born.map(|d| d.as_nanos()) }
    }

    fn is(&self, other: &Self) -> bool {
        match (self.born, other.born) {
            (Some(a), Some(b)) => a == b,
            _ => self.inode == other.inode,
        }
    }

    fn write(&self) -> String {
        self.born.map_or_else(|| self.inode.to_string(), |born| format!("{} {born}", self.inode))
    }

    fn parse(text: &str) -> Option<Self> {
        let (inode, born) = text.split_once(' ').map_or((text, None), |(inode, born)| (inode, Some(born)));
        Some(Self { inode: inode.parse().ok()?, born: born.map(str::parse).transpose().ok()? })
    }
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    mark: Mark,
    machine: Option<String>,
    database: Stamp,
    /// The file itself, as it was when this was written into it.
    file: Stamp,
}

impl Identity {
    fn write(&self) -> String {
        let machine = self.machine.as_deref().unwrap_or("unknown");
        format!(
            "# kigen keeps this beside its state, to see when the state was restored or copied. Do not back it up.\n\
             lineage {}\nepoch {}\nmachine {machine}\ndatabase {}\nfile {}\nend\n",
            self.mark.lineage,
            self.mark.epoch,
            self.database.write(),
            self.file.write()
        )
    }

    /// `None`: it was cut short, or is something else.
    fn parse(text: &str) -> Option<Self> {
        let get = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        text.ends_with("\nend\n").then_some(())?;
        Some(Self {
            mark: Mark { lineage: get("lineage")?.to_owned(), epoch: get("epoch")?.parse().ok()? },
            machine: get("machine").filter(|m| *m != "unknown").map(ToOwned::to_owned),
            database: Stamp::parse(get("database")?)?,
            file: Stamp::parse(get("file")?)?,
        })
    }
}

/// What lies beside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Nothing,
    Damaged,
    /// What it says, and which file it is now.
    Identity(Box<Identity>, Stamp),
}

/// What is here now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Here {
    machine: Option<String>,
    database: Stamp,
}

/// Whether the state is the one that was here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Judged {
    /// There was none before.
    First,
    Same,
    /// In words, how it was seen.
    Other(String),
}

fn judge(mark: Option<&Mark>, found: &Found, here: &Here) -> Judged {
    let other = |text: &str| Judged::Other(text.to_owned());
    let (identity, file) = match found {
        Found::Nothing if mark.is_none() => return Judged::First,
        Found::Nothing => return other("its .identity file is missing: it was restored from a backup, or copied here"),
        Found::Damaged => return other("its .identity file is damaged, so nobody can tell whether it was restored"),
        Found::Identity(identity, file) => (identity, file),
    };
    let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
    match mark {
        // Epoch 0: its very first leader died before the database was marked.
        None if identity.mark.epoch == 0 => Judged::First,
        None => other("it is a new one, or a backup from before an upgrade: it knows nothing of the one that was here"),
        Some(mark) if mark.lineage != identity.mark.lineage => other("it is not the one that was here before"),
        Some(mark) if mark.epoch < identity.mark.epoch => Judged::Other(format!(
            "it was restored from a backup: it stands at epoch {}, and this place has seen {}",
            mark.epoch, identity.mark.epoch
        )),
        Some(_) if differ(&identity.machine, &here.machine) => other("it was copied from another machine"),
        Some(_) if !identity.database.is(&here.database) => other("its file was restored from a backup, or copied"),
        Some(_) if !identity.file.is(file) => other("it was restored from a backup, or copied, with all beside it"),
        Some(_) => Judged::Same,
    }
}

/// Asked by whoever takes the lead: another state than the one that was here is held, and from now on counts as the one.
pub(super) async fn check(store: &Sqlite, now: Timestamp) -> Result<()> {
    const WHAT: &str = "check whose state it is";
    let mut tx = store.write(WHAT).await?;
    let mark = mark(&mut tx, WHAT).await?;
    let found = read(&store.path)?;
    let judged = judge(mark.as_ref(), &found, &here(&store.path)?);
    let next = match (&judged, mark) {
        (Judged::Same, Some(mark)) => Mark { epoch: mark.epoch + 1, ..mark },
        (_, mark) => {
            let seen = if let Found::Identity(identity, _) = &found { identity.mark.epoch } else { 0 };
            Mark { lineage: random()?, epoch: mark.map_or(0, |m| m.epoch).max(seen) + 1 }
        }
    };
    if judged == Judged::First {
        // Before the database is marked: a mark without a file would be an alarm.
        write(&store.path, &Mark { epoch: 0, ..next.clone() })?;
    }
    if let Judged::Other(how) = &judged {
        let reason = format!(
            "this state is not the one that was here: {how}. What was sent meanwhile it may not know; look at \
             `kigen outbox list` and `kigen plan`, then `kigen resume`"
        );
        desk::hold_restored(&mut tx, &reason, now, WHAT).await?;
    }
    let query = db::query(ADOPT).bind(&next.lineage).bind(next.epoch);
    query.execute(&mut tx).await.map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    publish(store, |_| true).await
}

/// The epoch grows: copies made until now are old.
pub(super) async fn advance(store: &Sqlite) -> Result<()> {
    const WHAT: &str = "mark the state";
    let mut tx = store.write(WHAT).await?;
    let mark = mark(&mut tx, WHAT).await?;
    if mark.is_none() || judge(mark.as_ref(), &read(&store.path)?, &here(&store.path)?) != Judged::Same {
        return tx.rollback().await.map_err(failed(WHAT));
    }
    db::query(ADVANCE).execute(&mut tx).await.map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    publish(store, |judged| *judged == Judged::Same).await
}

/// Writes the file after the database. Whoever writes it holds the right to write the database, so that of two the
/// later mark stays.
async fn publish(store: &Sqlite, may: impl Fn(&Judged) -> bool + Send) -> Result<()> {
    const WHAT: &str = "mark the state";
    let mut tx = store.write(WHAT).await?;
    if let Some(mark) = mark(&mut tx, WHAT).await?
        && may(&judge(Some(&mark), &read(&store.path)?, &here(&store.path)?))
    {
        write(&store.path, &mark)?;
    }
    tx.rollback().await.map_err(failed(WHAT))
}

async fn mark(tx: &mut Tx, what: &'static str) -> Result<Option<Mark>> {
    db::query_as(MARK).fetch_optional(&mut *tx).await.map_err(failed(what))
}

fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".identity");
    PathBuf::from(path)
}

fn file_error(what: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { what, path, source }
}

fn read(database: &Path) -> Result<Found> {
    let path = path_of(database);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(file_error("read", path)(e)),
    };
    let mut text = Vec::new();
    let read = Read::by_ref(&mut file).take(4096).read_to_end(&mut text).and_then(|_| file.metadata());
    let metadata = read.map_err(file_error("read", path))?;
    let identity = String::from_utf8(text).ok().and_then(|text| Identity::parse(&text));
    Ok(identity.map_or(Found::Damaged, |identity| Found::Identity(Box::new(identity), Stamp::of(&metadata))))
}

/// A new file in the place of the old one: its birth is then that of this writing.
fn write(database: &Path, mark: &Mark) -> Result<()> {
    let path = path_of(database);
    let here = here(database)?;
    let new = path.with_extension("identity.new");
    let made = || -> io::Result<()> {
        // What a crash left; its birth would be wrong.
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        give_to_owner_of(database, &file);
        let identity = Identity {
            mark: mark.clone(),
            machine: here.machine,
            database: here.database,
            file: Stamp::of(&file.metadata()?),
        };
        file.write_all(identity.write().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    made().map_err(file_error("write", path.clone()))
}

fn here(database: &Path) -> Result<Here> {
    let metadata = std::fs::metadata(database).map_err(file_error("look at", database.to_owned()))?;
    Ok(Here { machine: machine(), database: Stamp::of(&metadata) })
}

/// The machine, as far as it is one: machine-id(5), hashed as that page asks. A container is made anew with every upgrade
/// and its id with it, so there the files alone decide.
fn machine() -> Option<String> {
    let in_container = std::env::var_os("container").is_some()
        || ["/run/systemd/container", "/run/.containerenv", "/.dockerenv"].iter().any(|p| Path::new(p).exists());
    if in_container {
        return None;
    }
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| hex(&Sha256::digest(format!("kigen {id}"))[..16]))
}

/// A name that no other state has.
fn random() -> Result<String> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0_u8; 16];
    let read = File::open(SOURCE).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(file_error("read", PathBuf::from(SOURCE)))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(lineage: &str, epoch: i64) -> Mark {
        Mark { lineage: lineage.to_owned(), epoch }
    }

    fn stamp(inode: u64, born: u128) -> Stamp {
        Stamp { inode, born: Some(born) }
    }

    fn identity() -> Identity {
        Identity { mark: mark("a", 5), machine: Some("m".to_owned()), database: stamp(1, 10), file: stamp(2, 20) }
    }

    #[test]
    fn the_file_says_what_was_written_and_half_a_file_says_nothing() {
        for machine in [None, Some("m".to_owned())] {
            let identity = Identity { machine, database: Stamp { inode: 7, born: None }, ..identity() };
            let text = identity.write();
            assert_eq!(Identity::parse(&text), Some(identity));
            for cut in 0..text.len() {
                assert_eq!(Identity::parse(&text[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_counts_as_the_same_state() {
        let here = Here { machine: Some("m".to_owned()), database: stamp(1, 10) };
        let found = |change: fn(&mut Identity)| {
            let mut identity = identity();
            change(&mut identity);
            Found::Identity(Box::new(identity), stamp(2, 20))
        };
        let usual = || found(|_| ());
        #[rustfmt::skip]
        let rows: [(&str, Option<Mark>, Found, &str); 15] = [
            ("the first leader ever", None, Found::Nothing, "first"),
            ("the first leader died half-way", None, found(|i| i.mark.epoch = 0), "first"),
            ("an ordinary restart", Some(mark("a", 5)), usual(), "same"),
            ("a crash between database and file", Some(mark("a", 6)), usual(), "same"),
            ("a backup was restored over it", Some(mark("a", 4)), usual(), "epoch 4"),
            ("a database without its file", Some(mark("a", 5)), Found::Nothing, "missing"),
            ("a file that was cut short", Some(mark("a", 5)), Found::Damaged, "damaged"),
            ("the database was removed", None, usual(), "new one"),
            ("another lineage", Some(mark("b", 9)), usual(), "not the one"),
            ("another machine", Some(mark("a", 5)), found(|i| i.machine = Some("n".to_owned())), "machine"),
            ("a machine without an id", Some(mark("a", 5)), found(|i| i.machine = None), "same"),
            ("another database file", Some(mark("a", 5)), found(|i| i.database = stamp(9, 11)), "its file was"),
            ("its inode used again", Some(mark("a", 5)), found(|i| i.database = stamp(1, 11)), "its file was"),
            ("inodes that move under one file", Some(mark("a", 5)), found(|i| i.database = stamp(9, 10)), "same"),
            ("the file beside it was copied", Some(mark("a", 5)), found(|i| i.file = stamp(2, 19)), "all beside it"),
        ];
        for (sentence, mark, found, expected) in rows {
            match judge(mark.as_ref(), &found, &here) {
                Judged::First => assert_eq!(expected, "first", "{sentence}"),
                Judged::Same => assert_eq!(expected, "same", "{sentence}"),
                Judged::Other(text) => assert!(text.contains(expected), "{sentence}: {text}"),
            }
        }
    }
}
