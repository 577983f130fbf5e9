//! A file that another system writes: CSV or JSON, one row a site. The file's own date is the evidence's age.
//!
//! It connects to nothing. Invariants: a file is taken whole or not at all; the same file seen twice is the same evidence,
//! with the same date, however often it is looked at.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::Mutex;

use super::api::text;
use super::sheet::{self, MAX_SITES, Meanings, Row};
use super::{Account, Connector};
use crate::clock::Clock;
use crate::config::{ExportConfig, ScanConfig};
use crate::domain::Timestamp;
use crate::domain::observation::{CustomerLook, Failure, Reason};

/// The connector of kind `export`.
pub struct Export {
    config: ExportConfig,
    scan: ScanConfig,
    clock: Arc<dyn Clock>,
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

/// Rows packed into one text, since it is there as long as the connector.
#[derive(Default)]
struct Rows {
    text: String,
    /// Sorted by customer; one customer's in the file's order.
    places: Vec<Place>,
}

/// Where a row's cells stand in the text: customer, name, server type, authentication method, one after the other.
struct Place {
    start: usize,
    lengths: [u32; 4],
}

impl Rows {
    /// Takes a row; what is not there is empty.
    fn push(&mut self, cells: [&str; 4]) {
        let start = self.text.len();
        // A cell is shorter than its file; what is longer than 4 GiB is cut.
        let lengths = cells.map(|cell| u32::try_from(cell.len()).unwrap_or(0));
        cells.iter().zip(lengths).filter(|(_, length)| *length > 0).for_each(|(cell, _)| self.text.push_str(cell));
        self.places.push(Place { start, lengths });
    }

    fn sorted(mut self) -> Self {
        let mut places = std::mem::take(&mut self.places);
        places.sort_by(|a, b| self.customer(a).cmp(self.customer(b)));
        places.shrink_to_fit();
        self.text.shrink_to_fit();
        Self { places, text: self.text }
    }

    fn customer(&self, place: &Place) -> &str {
        &self.text[place.start..place.start + place.lengths[0] as usize]
    }

    fn row(&self, place: &Place) -> Row {
        let mut at = place.start + place.lengths[0] as usize;
        let [name, server_type, auth_method] = [1, 2, 3].map(|cell| {
            let text = &self.text[at..at + place.lengths[cell] as usize];
            at += text.len();
            Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
        });
        Row { name, server_type, auth_method }
    }

    /// A customer's rows.
    fn of(&self, customer: &str) -> Vec<Row> {
        let first = self.places.partition_point(|place| self.customer(place) < customer);
        let its = self.places[first..].iter().take_while(|place| self.customer(place) == customer);
        its.map(|place| self.row(place)).collect()
    }

    /// The most rows of one customer.
    fn most(&self) -> usize {
        let same = self.places.chunk_by(|a, b| self.customer(a) == self.customer(b));
        same.map(<[Place]>::len).max().unwrap_or(0)
    }
}

impl Export {
    /// Makes the connector; reads nothing yet.
    #[must_use]
    pub fn new(config: &ExportConfig, scan: &ScanConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            meanings: Meanings::new(&config.texts),
            config: config.clone(),
            scan: scan.clone(),
            clock,
            known: Mutex::new(None),
        }
    }

    /// The file as it is now; read again only when it was written again.
    async fn table(&self) -> Result<Arc<Result<Table, Failure>>, Failure> {
        use std::os::unix::fs::MetadataExt;
        let mut known = self.known.lock().await;
        let unreadable = |error: std::io::Error| {
            let path = self.config.path.display();
            Failure::new(Reason::Connect, format!("cannot read {path} (connector.export.path): {error}"))
        };
        let meta = tokio::fs::metadata(&self.config.path).await.map_err(unreadable)?;
        let modified = meta.modified().map_err(unreadable)?;
        let stamp = (meta.len(), modified, meta.ino());
        if let Some((_, table)) = known.as_ref().filter(|(before, _)| *before == stamp) {
            return Ok(Arc::clone(table));
        }
        let config = self.config.clone();
        let read = tokio::task::spawn_blocking(move || read(&config, modified.into()));
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
}

fn read(config: &ExportConfig, modified: DateTime<Utc>) -> Result<Table, Failure> {
    let bytes = bytes(&config.path, config.max_size)?;
    let is_json = config.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let table = if is_json { json(config, &bytes, modified)? } else { csv(config, &bytes, modified)? };
    if table.rows.most() > MAX_SITES {
        return Err(Failure::new(Reason::TooLarge, format!("more than {MAX_SITES} sites of one customer")));
    }
    Ok(table)
}

fn bytes(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let failed =
        |error: std::io::Error| Failure::new(Reason::Connect, format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        let detail = format!("{} is larger than connector.export.max_size ({max} bytes)", path.display());
        return Err(Failure::new(Reason::TooLarge, detail));
    }
    Ok(bytes)
}

fn changed(detail: impl Into<String>) -> Failure {
    Failure::new(Reason::LayoutChanged, detail)
}

fn json(config: &ExportConfig, bytes: &[u8], modified: DateTime<Utc>) -> Result<Table, Failure> {
    let document: Value = serde_json::from_slice(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes))
        .map_err(|error| changed(format!("the export file is no JSON (line {})", error.line())))?;
    let date = match &config.date {
        None => modified,
        Some(pointer) => text(&document, pointer)
            .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
            .map(|date| date.to_utc())
            .ok_or_else(|| changed(format!("no RFC 3339 date at {pointer:?} (connector.export.date)")))?,
    };
    let list = document.pointer(&config.rows).and_then(Value::as_array);
    let list = list.ok_or_else(|| changed(format!("no list of rows at {:?} (connector.export.rows)", config.rows)))?;
    let mut rows = Rows::default();
    for (n, site) in list.iter().enumerate() {
        let get =
            |field: &str| if field.starts_with('/') { text(site, field) } else { text(site, &format!("/{field}")) };
        let customer = get(&config.customer).ok_or_else(|| changed(format!("row {} names no customer", n + 1)))?;
        let fields = &config.fields;
        let [name, server, method] =
            [&fields.name, &fields.server_type, &fields.auth_method].map(|field| get(field).unwrap_or_default());
        rows.push([customer.trim(), &name, &server, &method]);
    }
    Ok(Table { date, rows: rows.sorted() })
}

fn csv(config: &ExportConfig, bytes: &[u8], modified: DateTime<Utc>) -> Result<Table, Failure> {
    let text = decoded(bytes)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|_| changed("the export file's first line cannot be read"))?.clone();
    let column = |name: &str| {
        let mut found = headers.iter().enumerate().filter(|(_, header)| *header == name).map(|(n, _)| n);
        match (found.next(), found.next()) {
            (Some(column), None) => Ok(column),
            (None, _) => Err(changed(format!("the export file has no column {name:?}"))),
            _ => Err(changed(format!("the export file has the column {name:?} twice"))),
        }
    };
    let fields = &config.fields;
    let (customer, name) = (column(&config.customer)?, column(&fields.name)?);
    let (server, method) = (column(&fields.server_type)?, column(&fields.auth_method)?);
    let mut rows = Rows::default();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            changed(format!(
                "the export file's line {line} has another number of cells than its first, or cannot be read"
            ))
        })?;
        let [customer, name, server, method] = [customer, name, server, method].map(|n| record.get(n).unwrap_or(""));
        if customer.is_empty() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(changed(format!("the export file's line {line} names no customer")));
        }
        rows.push([customer, name, server, method]);
    }
    Ok(Table { date: modified, rows: rows.sorted() })
}

/// UTF-8, or CP932 as Excel in Japan writes it.
fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>, Failure> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    let (text, wrong) = encoding_rs::SHIFT_JIS.decode_without_bom_handling(bytes);
    if wrong { Err(changed("the export file is neither UTF-8 nor CP932")) } else { Ok(text) }
}
