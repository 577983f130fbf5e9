//! A file that another system writes: CSV or JSON, one row a site. The file's own date is the evidence's age.
//!
//! It connects to nothing, and its memory does not grow with the file: rows are read one by one and kept in a [`spool`]
//! (`rows`). Invariants: a file is taken whole or not at all; the same file seen twice is the same evidence, with the same
//! date, however often it is looked at.
//!
//! [`spool`]: crate::spool

mod csv;
mod json;
mod rows;

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use self::rows::{Gathering, Rows};
use super::sheet::{self, Meanings};
use super::{Account, Connector, Strangers};
use crate::clock::Clock;
use crate::config::{ExportConfig, ScanConfig};
use crate::domain::Timestamp;
use crate::domain::observation::{CustomerLook, Failure, Reason};
use crate::domain::site::CustomerId;

/// The connector of kind `export`.
pub struct Export {
    config: ExportConfig,
    scan: ScanConfig,
    clock: Arc<dyn Clock>,
    spool: PathBuf,
    meanings: Meanings,
    /// The file as it was read last.
    known: Mutex<Option<Known>>,
}

/// What a file looked like: another one is another file.
type Stamp = (u64, SystemTime, u64);

/// A file as it was read, or why it could not be.
type Known = (Stamp, Arc<Result<Table, Failure>>);

/// The file's rows by customer.
struct Table {
    date: Timestamp,
    rows: Rows,
}

impl Export {
    /// Makes the connector; reads nothing yet. What of the file is too large for memory goes into an unlinked file in `spool`.
    #[must_use]
    pub fn new(config: &ExportConfig, scan: &ScanConfig, clock: Arc<dyn Clock>, spool: &Path) -> Self {
        Self {
            meanings: Meanings::new(&config.texts),
            config: config.clone(),
            scan: scan.clone(),
            clock,
            spool: spool.to_owned(),
            known: Mutex::new(None),
        }
    }

    /// The file as it is now; read again only when it was written again.
    async fn table(&self) -> Result<Arc<Result<Table, Failure>>, Failure> {
        use std::os::unix::fs::MetadataExt;
        let mut known = self.known.lock().await;
        let unreadable = |error| unreadable(&self.config, &error);
        let meta = tokio::fs::metadata(&self.config.path).await.map_err(unreadable)?;
        let modified = meta.modified().map_err(unreadable)?;
        let stamp = (meta.len(), modified, meta.ino());
        if let Some((_, table)) = known.as_ref().filter(|(before, _)| *before == stamp) {
            return Ok(Arc::clone(table));
        }
        let (config, spool) = (self.config.clone(), self.spool.clone());
        let read = tokio::task::spawn_blocking(move || read(&config, &spool));
        let broken = |_| Err(Failure::new(Reason::LayoutChanged, "the export file could not be parsed"));
        let table = Arc::new(read.await.unwrap_or_else(broken));
        *known = Some((stamp, Arc::clone(&table)));
        Ok(table)
    }
}

#[async_trait]
impl Connector for Export {
    async fn look(&self, account: &Account) -> CustomerLook {
        let now = self.clock.now();
        let limit = self.scan.customer_timeout;
        let late =
            |_| Err(Failure::new(Reason::Timeout, format!("reading the export file took longer than {limit:?}")));
        let table = match tokio::time::timeout(limit, self.table()).await.unwrap_or_else(late) {
            Ok(table) => table,
            Err(failure) => return CustomerLook { sites: Err(failure), at: now },
        };
        let table = match table.as_ref() {
            Ok(table) => table,
            Err(failure) => return CustomerLook { sites: Err(failure.clone()), at: now },
        };
        // A date in the future must not keep old evidence fresh for ever.
        let at = table.date.min(now);
        let rows = table.rows.of(account.customer.as_str());
        CustomerLook { sites: sheet::looks(&rows, &account.sites, &self.meanings, at), at }
    }

    fn strangers(&self, known: &mut dyn Iterator<Item = CustomerId>) -> Strangers {
        let read = self.known.blocking_lock().as_ref().map(|(_, table)| Arc::clone(table));
        match read.as_deref() {
            Some(Ok(table)) => table.rows.strangers(known),
            Some(Err(_)) | None => Strangers::default(),
        }
    }
}

fn read(config: &ExportConfig, spool: &Path) -> Result<Table, Failure> {
    let failed = |error| unreadable(config, &error);
    let mut file = File::open(&config.path).map_err(failed)?;
    let before = file.metadata().map_err(failed)?;
    let max = config.max_size as u64;
    if before.len() > max {
        let detail = format!("{} is larger than connector.export.max_size ({max} bytes)", config.path.display());
        return Err(Failure::new(Reason::TooLarge, detail));
    }
    let modified: DateTime<Utc> = before.modified().map_err(failed)?.into();
    let is_json = config.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let mut rows = Gathering::new(spool);
    let date = if is_json {
        json::read(config, &mut file, &mut rows)?
    } else {
        csv::read(config, &mut file, &mut rows)?;
        None
    };
    if !same(&before, &file.metadata().map_err(failed)?).map_err(failed)? {
        let detail = format!("{} was written to while it was read", config.path.display());
        return Err(Failure::new(Reason::Connect, detail));
    }
    Ok(Table { date: date.unwrap_or(modified), rows: rows.done()? })
}

/// The file from its beginning, without the byte order mark.
fn from_start<'f>(config: &ExportConfig, file: &'f mut File) -> io::Result<BufReader<io::Take<&'f mut File>>> {
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    let mut first = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(MARK.len() as u64).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(if first == MARK { first.len() as u64 } else { 0 }))?;
    Ok(BufReader::with_capacity(64 * 1024, file.take(config.max_size as u64)))
}

fn same(before: &Metadata, after: &Metadata) -> io::Result<bool> {
    Ok(before.len() == after.len() && before.modified()? == after.modified()?)
}

fn unreadable(config: &ExportConfig, error: &io::Error) -> Failure {
    let path = config.path.display();
    Failure::new(Reason::Connect, format!("cannot read {path} (connector.export.path): {error}"))
}

fn changed(detail: impl Into<String>) -> Failure {
    Failure::new(Reason::LayoutChanged, detail)
}
