//! Listings on stdout: a table for people, JSON lines and CSV for programs.
//!
//! JSON lines and CSV hold every column in its order; a table holds what fits a screen, in words, with short times.

use std::fmt;
use std::io::{IsTerminal, Write};

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::domain::Timestamp;
use crate::domain::observation::Observation;

/// The form of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated, with a header
    Csv,
}

/// The option of every listing.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormatArg {
    /// The form of the listing
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// A column of a table for people: one column of the listing, or several put together.
pub struct Shown {
    header: &'static str,
    parts: &'static [&'static str],
    between: &'static str,
    if_varied: bool,
    otherwise: Option<&'static str>,
}

impl Shown {
    /// One column under its own header.
    #[must_use]
    pub const fn one(header: &'static str, part: &'static [&'static str; 1]) -> Self {
        Self { header, parts: part, between: "", if_varied: false, otherwise: None }
    }

    /// Several columns, with this between those that are not empty.
    #[must_use]
    pub const fn joined(header: &'static str, parts: &'static [&'static str], between: &'static str) -> Self {
        Self { header, parts, between, if_varied: false, otherwise: None }
    }

    /// A column that is left out while it says the same in every row.
    #[must_use]
    pub const fn if_varied(header: &'static str, part: &'static [&'static str; 1]) -> Self {
        Self { header, parts: part, between: "", if_varied: true, otherwise: None }
    }

    /// The column whose text stands there where this one would be empty.
    #[must_use]
    pub const fn or(mut self, otherwise: &'static str) -> Self {
        self.otherwise = Some(otherwise);
        self
    }
}

/// A listing's rows: columns in order, each row as JSON values (for `jsonl`) and as texts (for the others).
pub struct Listing {
    columns: &'static [&'static str],
    shown: &'static [Shown],
    rows: Vec<Vec<Value>>,
    /// JSON lines that are written as they come: those that were not written yet, and why no more can be.
    lines: Option<(Vec<u8>, std::io::Result<()>)>,
}

/// Lines that are written as they come are gathered to so many bytes.
const GATHERED: usize = 64 * 1024;

impl Listing {
    /// An empty listing with these columns.
    #[must_use]
    pub fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, shown: &[], rows: Vec::new(), lines: None }
    }

    /// Chooses what a table shows; without it, all.
    #[must_use]
    pub fn shown(mut self, shown: &'static [Shown]) -> Self {
        debug_assert!(shown.iter().flat_map(|s| s.parts).all(|part| self.columns.contains(part)), "a column's name");
        self.shown = shown;
        self
    }

    /// For a listing that may be long, in that form: JSON lines are then written row by row, and none is kept. (A table needs
    /// all rows for its widths.)
    #[must_use]
    pub fn as_they_come(mut self, format: Format) -> Self {
        self.lines = (format == Format::Jsonl).then(|| (Vec::new(), Ok(())));
        self
    }

    /// Adds a row; its values are in the columns' order.
    pub fn row(&mut self, values: Vec<Value>) {
        debug_assert_eq!(values.len(), self.columns.len());
        let Some((out, written)) = &mut self.lines else {
            self.rows.push(values);
            return;
        };
        if written.is_ok() {
            *written = line(out, self.columns, &values);
        }
        if written.is_ok() && out.len() > GATHERED {
            *written = write(out);
            out.clear();
        }
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes it all, or what was not written as it came.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn print(self, format: Format) -> std::io::Result<()> {
        if let Some((out, written)) = self.lines {
            return written.and_then(|()| write(&out));
        }
        match format {
            Format::Jsonl => {
                let mut out = Vec::new();
                self.rows.iter().try_for_each(|row| line(&mut out, self.columns, row))?;
                write(&out)
            }
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(Vec::new());
                csv.write_record(self.columns)?;
                for row in &self.rows {
                    csv.write_record(row.iter().map(plain))?;
                }
                write(&csv.into_inner().map_err(|e| std::io::Error::other(e.to_string()))?)
            }
            Format::Table => write(format!("{}\n", self.table()).as_bytes()),
        }
    }

    fn table(&self) -> Table {
        let all: Vec<(String, bool, Vec<String>)> = if self.shown.is_empty() {
            let column = |n: usize| {
                let cells = self.rows.iter().map(|row| self.cell(n, row)).collect();
                (self.columns[n].replace('_', " "), self.is_numeric(n), cells)
            };
            (0..self.columns.len()).map(column).collect()
        } else {
            self.shown.iter().filter_map(|shown| self.column(shown)).collect()
        };
        let mut table = new_table();
        table.set_header(all.iter().map(|(header, _, _)| header));
        for n in 0..self.rows.len() {
            table.add_row(all.iter().map(|(_, _, cells)| &cells[n]));
        }
        for (column, (_, numeric, _)) in table.column_iter_mut().zip(&all) {
            if *numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// Header, whether it holds numbers, cells; `None` for a column that says nothing.
    fn column(&self, shown: &Shown) -> Option<(String, bool, Vec<String>)> {
        let place = |column: &str| self.columns.iter().position(|c| *c == column);
        let places: Vec<usize> = shown.parts.iter().filter_map(|part| place(part)).collect();
        let cell = |row: &Vec<Value>| {
            let parts: Vec<String> = places.iter().map(|n| self.cell(*n, row)).filter(|t| !t.is_empty()).collect();
            match (parts.is_empty(), shown.otherwise.and_then(place)) {
                (true, Some(n)) => self.cell(n, row),
                _ => parts.join(shown.between),
            }
        };
        let cells: Vec<String> = self.rows.iter().map(cell).collect();
        let empty = !cells.is_empty() && cells.iter().all(String::is_empty);
        let same = shown.if_varied && cells.windows(2).all(|pair| pair[0] == pair[1]);
        let numeric = places.iter().all(|n| self.is_numeric(*n));
        (!empty && !same).then(|| (shown.header.to_owned(), numeric, cells))
    }

    fn is_numeric(&self, n: usize) -> bool {
        self.rows.iter().all(|row| row[n].is_number() || row[n].is_null())
    }

    fn cell(&self, n: usize, row: &[Value]) -> String {
        let is_time = self.columns[n] == "at" || self.columns[n].ends_with("_at");
        match &row[n] {
            Value::String(text) if is_time => short_time(text),
            Value::Array(items) if items.len() > SHOWN_ITEMS => {
                let first = Value::Array(items[..SHOWN_ITEMS - 1].to_vec());
                format!("{}; +{}", plain(&first), items.len() + 1 - SHOWN_ITEMS)
            }
            other => plain(other),
        }
    }
}

/// The items of a list that a table's cell shows.
const SHOWN_ITEMS: usize = 3;

/// `2022-09-01 06:00`: the offset is the configured zone's everywhere.
#[must_use]
pub fn short_time(text: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(at) => at.format("%Y-%m-%d %H:%M").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Appends a row as a line of JSON.
fn line(out: &mut Vec<u8>, columns: &'static [&'static str], row: &[Value]) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, &InOrder(columns, row))?;
    out.push(b'\n');
    Ok(())
}

/// A row as a JSON object whose keys keep the columns' order.
struct InOrder<'a>(&'static [&'static str], &'a [Value]);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

/// A table that is as wide as the terminal at most; wide characters count as two.
#[must_use]
pub fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        // In a pipe there is no width to keep to.
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table
}

/// A value as a table or CSV cell. Control characters are made visible: a site's name must not move the cursor.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    };
    text.chars().map(|c| if (c.is_control() && c != '\n') || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// Characters that are not seen and turn the reading direction: with one in a name a row would read as another.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// The reader of stdout had enough: `kigen sites | head`. No failure of ours, and told apart from a server's broken pipe.
#[derive(Debug, thiserror::Error)]
#[error("stdout is gone")]
pub struct StdoutGone;

/// Writes bytes to stdout.
///
/// # Errors
/// When stdout is gone ([`StdoutGone`]) or full.
pub fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => std::io::Error::new(std::io::ErrorKind::BrokenPipe, StdoutGone),
        _ => error,
    })
}

/// Writes to stderr. Its reader may have had enough (`kigen notify 2>&1 | head`): no reason to end half-way, as
/// `eprintln!` would by a panic.
pub fn say_text(text: fmt::Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

/// A line on stderr, see [`say_text`].
macro_rules! say {
    () => { $crate::cli::output::say_text(format_args!("\n")) };
    ($($arg:tt)+) => { $crate::cli::output::say_text(format_args!("{}\n", format_args!($($arg)+))) };
}
pub(in crate::cli) use say;

/// An instant as RFC 3339 in the configured zone, to the second.
#[must_use]
pub fn time(at: Timestamp, zone: chrono_tz::Tz) -> String {
    at.with_timezone(&zone).to_rfc3339_opts(chrono::SecondsFormat::Secs, false)
}

/// The same, or null.
#[must_use]
pub fn time_or_null(at: Option<Timestamp>, zone: chrono_tz::Tz) -> Value {
    at.map_or(Value::Null, |at| Value::String(time(at, zone)))
}

/// One observation as `scan --format jsonl` promises it. Its `Display` is the line.
#[derive(Debug, Clone, Serialize)]
pub struct ObservationLine<'a> {
    customer: &'a str,
    site: Option<&'a str>,
    verdict: &'static str,
    reason: Option<&'static str>,
    server_type: Option<&'static str>,
    auth_method: Option<&'static str>,
    raw: RawLine<'a>,
    detail: Option<&'a str>,
    observed_at: String,
}

#[derive(Debug, Clone, Serialize)]
struct RawLine<'a> {
    server_type: Option<&'a str>,
    auth_method: Option<&'a str>,
}

impl fmt::Display for ObservationLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).expect("texts always make JSON"))
    }
}

/// One observation as `scan --format jsonl` promises it.
#[must_use]
pub fn observation(seen: &Observation, zone: chrono_tz::Tz) -> ObservationLine<'_> {
    ObservationLine {
        customer: seen.customer.as_str(),
        site: seen.site.as_ref().map(|s| s.as_str()),
        verdict: seen.verdict.as_str(),
        reason: seen.verdict.reason().map(|r| r.as_str()),
        server_type: seen.server_type.map(|s| s.as_str()),
        auth_method: seen.auth_method.map(|m| m.as_str()),
        raw: RawLine { server_type: seen.raw.server_type.as_deref(), auth_method: seen.raw.auth_method.as_deref() },
        detail: seen.detail.as_deref(),
        observed_at: time(seen.observed_at, zone),
    }
}

/// The columns of an observation in CSV.
pub const OBSERVATION_COLUMNS: &[&str] =
    &["customer", "site", "verdict", "reason", "server_type", "auth_method", "detail", "observed_at"];

/// What a table shows of an observation.
pub const OBSERVATION_SHOWN: &[Shown] = &[
    Shown::one("customer", &["customer"]),
    Shown::one("site", &["site"]),
    Shown::joined("verdict", &["verdict", "reason"], ": "),
    Shown::one("server", &["server_type"]),
    Shown::one("method", &["auth_method"]),
    Shown::one("seen", &["observed_at"]),
];

/// An observation's cells for [`OBSERVATION_COLUMNS`].
#[must_use]
pub fn observation_row(seen: &Observation, zone: chrono_tz::Tz) -> Vec<Value> {
    let line = observation(seen, zone);
    let text = |t: Option<&str>| t.map_or(Value::Null, |t| Value::String(t.to_owned()));
    vec![
        text(Some(line.customer)),
        text(line.site),
        text(Some(line.verdict)),
        text(line.reason),
        text(line.server_type),
        text(line.auth_method),
        text(line.detail),
        Value::String(line.observed_at),
    ]
}
