//! The customers file (CSV or TOML) -> customers, and quarantined rows. A row with an error quarantines that customer alone.
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
mod toml;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::domain::customer::Customer;
use crate::domain::site::CustomerId;
use crate::secret::{Secret, SecretError, SecretSource, refuse_exposed};

pub use import::{Imported, import};
pub use members::Members;

/// The largest customers file, in bytes: the whole of it is read into memory.
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
    /// The good rows, in the file's order. No two have one id.
    pub members: Vec<Member>,
    /// The others. Several may have one id: that is then what is wrong with them.
    pub quarantined: Vec<Quarantined>,
}

/// The whole file in little memory, as what runs on it holds it.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// The good rows, in the file's order. No two have one id.
    pub members: Arc<Members>,
    /// The others. Several may have one id: that is then what is wrong with them.
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
    let mut members = Vec::new();
    let quarantined = each(path, |member| members.push(member))?;
    Ok(Fleet { members, quarantined })
}

/// Reads a customers file as [`load`] does, and never holds all of its rows.
///
/// # Errors
/// As [`load`].
pub fn roster(path: &Path) -> Result<Roster, FleetError> {
    let mut members = members::Packing::default();
    let quarantined = each(path, |member| members.push(&member))?;
    Ok(Roster { members: Arc::new(members.done()), quarantined })
}

/// Hands out the good rows; returns the others.
fn each(path: &Path, mut good: impl FnMut(Member)) -> Result<Vec<Quarantined>, FleetError> {
    let kind = Kind::of(path).ok_or_else(|| FleetError::Kind(path.to_owned()))?;
    let bytes = read(path)?;
    let rows = Rows::of(&bytes, kind).map_err(|errors| FleetError::Invalid { path: path.to_owned(), errors })?;
    // Twice: what a row's id is worth is known once all others were seen.
    let mut ids = Vec::new();
    let mut exposes = false;
    rows.each(|mut row| {
        exposes |= row.holds_a_password();
        ids.extend(row.take_id());
    });
    if exposes {
        refuse_exposed(path).map_err(FleetError::Exposed)?;
    }
    let shared = member::shared(ids);
    let base = path.parent().unwrap_or(Path::new(""));
    let mut quarantined = Vec::new();
    rows.each(|row| match member::one(row, &shared, base) {
        Ok(member) => good(member),
        Err(bad) => quarantined.push(bad),
    });
    Ok(quarantined)
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

fn read(path: &Path) -> Result<Vec<u8>, FleetError> {
    let failed = |source| FleetError::Read { path: path.to_owned(), source };
    // Asked first: to open a pipe would wait for whoever writes into it.
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(FleetError::NotAFile(path.to_owned()));
    }
    if meta.len() > MAX_FILE {
        return Err(FleetError::TooLarge(path.to_owned()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FleetError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// The rows of a file whose header or syntax is good, as often as they are wanted.
enum Rows<'b> {
    Csv(csv::Sheet<'b>),
    Toml(String),
}

impl<'b> Rows<'b> {
    fn of(bytes: &'b [u8], kind: Kind) -> Result<Self, Vec<RowError>> {
        let whole = |line, message| vec![RowError { line, column: None, message }];
        let (charset, bytes) = charset::detect(bytes).map_err(|why| whole(1, why.to_string()))?;
        match kind {
            Kind::Csv => csv::Sheet::of(bytes, charset).map(Self::Csv),
            Kind::Toml => {
                let text = charset.decode(bytes).ok_or_else(|| {
                    let good = bytes.split(|b| *b == b'\n').take_while(|line| charset.decode(line).is_some()).count();
                    whole(good as u64 + 1, format!("the file holds bytes that are no {}", charset.name()))
                })?;
                toml::rows(&text)?;
                Ok(Self::Toml(text))
            }
        }
    }

    fn each(&self, take: impl FnMut(row::Row)) {
        match self {
            Self::Csv(sheet) => sheet.rows().for_each(take),
            Self::Toml(text) => toml::rows(text).unwrap_or_default().into_iter().for_each(take),
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
