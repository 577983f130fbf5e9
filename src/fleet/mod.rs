//! The customers file (CSV or TOML) -> customers, and quarantined rows. A row with an error quarantines that customer alone.
//!
//! A CSV file is never in memory as a whole, nor are its customers (`sorting`, `members`). A TOML file is, several times over:
//! it is meant for fleets that people write.
//!
//! What makes the file as a whole unusable (not there, no header, no TOML) is a [`FleetError`]: then the fleet that was read
//! before stays in use. No error repeats a cell, so none holds a secret or a full address.

mod charset;
mod column;
mod csv;
mod import;
mod member;
mod members;
mod row;
mod sorting;
mod toml;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::domain::customer::Customer;
use crate::domain::site::CustomerId;
use crate::secret::{Secret, SecretError, SecretSource, refuse_exposed};

pub use import::{Imported, import};
pub use members::Members;

/// The largest customers file, in bytes.
pub const MAX_FILE: u64 = 256 * 1024 * 1024;

/// The most customers of one file.
pub const MAX_CUSTOMERS: usize = 1_000_000;

/// A customer with what is needed to log on.
#[derive(Debug, Clone)]
pub struct Member {
    /// The company.
    pub customer: Customer,
    /// Its account on the admin tool.
    pub logon: Logon,
    /// Changes when anything that a logon depends on changes (account, password, URL); never reveals it: see
    /// [`Logon::fingerprint`].
    pub fingerprint: String,
}

/// An account on the admin tool.
#[derive(Debug, Clone)]
pub struct Logon {
    /// The administrator's account; empty where the connector needs none.
    pub account: String,
    /// Its password.
    pub password: Option<Password>,
    /// Where to log on, if not at the connector's `logon_url`.
    pub url: Option<url::Url>,
}

/// A password, or where it is.
#[derive(Debug, Clone)]
pub enum Password {
    /// Given in the file.
    Given(Secret),
    /// Read when it is needed.
    Source(SecretSource),
}

/// A row that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its id, where it has one: the customer is then `unreadable: inventory_error`.
    pub id: Option<CustomerId>,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What is wrong with it; never empty.
    pub errors: Vec<RowError>,
}

/// One error of one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The line in the file, from 1.
    pub line: u64,
    /// The column's name; `None`: the row as a whole.
    pub column: Option<String>,
    /// What is wrong and what to do. Never the cell's secret.
    pub message: String,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "line {}, {column}: {}", self.line, self.message),
            None => write!(f, "line {}: {}", self.line, self.message),
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The good rows, in the order of their ids. No two have one id.
    pub members: Vec<Member>,
    /// The others. Several may have one id: that is then what is wrong with them.
    pub quarantined: Vec<Quarantined>,
}

/// The whole file in little memory, as what runs on it holds it.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// The good rows, in the order of their ids. No two have one id.
    pub members: Arc<Members>,
    /// The others, in the file's order. Several may have one id: that is then what is wrong with them.
    pub quarantined: Vec<Quarantined>,
}

/// Why a customers file cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Not there, or not readable.
    #[error("cannot read the customers file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("the customers file {0} is no regular file")]
    NotAFile(PathBuf),
    /// It was written to each time while it was read.
    #[error("the customers file {0} is being written to; try again once it is whole")]
    Unsettled(PathBuf),
    /// The customers cannot be kept outside of memory.
    #[error("cannot keep the customers in a temporary file in {dir}")]
    Spool {
        /// Where it was to be.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Neither `.csv` nor `.toml`.
    #[error("the customers file {0} must be called .csv or .toml")]
    Kind(PathBuf),
    /// Larger than [`MAX_FILE`].
    #[error("the customers file {0} is larger than 256 MiB")]
    TooLarge(PathBuf),
    /// It holds passwords, and group or others can read it.
    #[error("the customers file holds passwords, so only its owner may read it")]
    Exposed(#[source] SecretError),
    /// Its header or its syntax; every error is listed.
    #[error("the customers file {path} cannot be used: {}", list(.errors))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never empty.
        errors: Vec<RowError>,
    },
}

fn list(errors: &[RowError]) -> String {
    errors.iter().map(RowError::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads a customers file. Relative paths in it are relative to its directory.
///
/// # Errors
/// [`FleetError`] if the file as a whole cannot be used; a bad row is in [`Fleet::quarantined`].
pub fn load(path: &Path) -> Result<Fleet, FleetError> {
    let Roster { members, quarantined } = roster(path, path.parent().unwrap_or(Path::new("")))?;
    Ok(Fleet { members: (0..members.len()).map(|number| members.at(number)).collect(), quarantined })
}

/// How often a file that changes meanwhile is read.
const TRIES: usize = 3;

/// Reads a customers file as [`load`] does, and never holds all of its rows: what is too large for memory goes into an
/// unlinked file in `spool`.
///
/// # Errors
/// As [`load`].
pub fn roster(path: &Path, spool: &Path) -> Result<Roster, FleetError> {
    let failed = |source| FleetError::Read { path: path.to_owned(), source };
    for _ in 0..TRIES {
        let (mut file, before) = open(path)?;
        let read = read(path, &mut file, spool);
        let after = file.metadata().map_err(failed)?;
        // It is read twice, from its start: what was written in between would fit neither time.
        if same(&before, &after).map_err(failed)? {
            return read;
        }
    }
    Err(FleetError::Unsettled(path.to_owned()))
}

fn open(path: &Path) -> Result<(File, Metadata), FleetError> {
    let failed = |source| FleetError::Read { path: path.to_owned(), source };
    // Asked first: to open a pipe would wait for whoever writes into it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(FleetError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.len() > MAX_FILE { Err(FleetError::TooLarge(path.to_owned())) } else { Ok((file, meta)) }
}

fn same(before: &Metadata, after: &Metadata) -> io::Result<bool> {
    Ok(before.len() == after.len() && before.modified()? == after.modified()?)
}

fn read(path: &Path, file: &mut File, spool: &Path) -> Result<Roster, FleetError> {
    let kind = Kind::of(path).ok_or_else(|| FleetError::Kind(path.to_owned()))?;
    let failed = |source| FleetError::Read { path: path.to_owned(), source };
    let invalid = |errors| FleetError::Invalid { path: path.to_owned(), errors };
    let whole = |line, message| invalid(vec![RowError { line, column: None, message }]);
    let found = charset::read(&mut BufReader::new(file.by_ref().take(MAX_FILE))).map_err(failed)?;
    let (charset, mark) = found.map_err(|why| whole(1, why.to_string()))?;
    file.seek(SeekFrom::Start(mark as u64)).map_err(failed)?;
    let mut source = file.take(MAX_FILE);

    let base = path.parent().unwrap_or(Path::new(""));
    let mut sorting = sorting::Sorting::new(spool);
    let mut exposes = false;
    let mut take = |row: row::Row| {
        exposes |= row.holds_a_password();
        sorting.push(row, base)
    };
    match kind {
        Kind::Csv => {
            let mut sheet = csv::Sheet::of(source, charset).map_err(failed)?.map_err(invalid)?;
            let mut rows = 0;
            while let Some(row) = sheet.next(rows).map_err(failed)? {
                take(row.map_err(|error| invalid(vec![error]))?)?;
                rows += 1;
            }
        }
        Kind::Toml => {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).map_err(failed)?;
            let text = charset.decode(&bytes).ok_or_else(|| {
                let good = bytes.split(|b| *b == b'\n').take_while(|line| charset.decode(line).is_some()).count();
                whole(good as u64 + 1, format!("the file holds bytes that are no {}", charset.name()))
            })?;
            toml::rows(&text).map_err(invalid)?.into_iter().try_for_each(take)?;
        }
    }
    if exposes {
        refuse_exposed(path).map_err(FleetError::Exposed)?;
    }
    sorting.done()
}

/// How the file is written.
#[derive(Clone, Copy)]
enum Kind {
    Csv,
    Toml,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

impl Fleet {
    /// The good rows by id.
    #[must_use]
    pub fn by_id(&self) -> BTreeMap<&CustomerId, &Member> {
        self.members.iter().map(|m| (&m.customer.id, m)).collect()
    }
}

impl Logon {
    /// The password; one in a file or credential is read now.
    ///
    /// # Errors
    /// [`SecretError`] if its source cannot be read.
    pub fn password(&self) -> Result<Option<Secret>, SecretError> {
        match &self.password {
            None => Ok(None),
            Some(Password::Given(secret)) => Ok(Some(secret.clone())),
            Some(Password::Source(source)) => source.read().map(Some),
        }
    }

    /// 16 hex digits that change when account, password or URL change. Of a `password_file` or `credential` the source's
    /// name counts, not what is in it.
    ///
    /// It is stored, so it must not help to guess a password: of the password only 16 bits of a digest go in. Whoever tries
    /// a word list on it is left with one word in 65 536, and a changed password goes unnoticed as rarely.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let password = match &self.password {
            None => "none".to_owned(),
            Some(Password::Given(secret)) => {
                let digest = digest(&["kigen password", &self.account, secret.expose()]);
                format!("given {:02x}{:02x}", digest[0], digest[1])
            }
            Some(Password::Source(source)) => format!("{source:?}"),
        };
        let url = self.url.as_ref().map_or("", url::Url::as_str);
        digest(&["kigen logon", &self.account, &password, url])[..8].iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// SHA-256 over texts, each with its length before it so that no two lists of texts are alike.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
