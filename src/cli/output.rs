//! Listings on stdout: a table for people, JSON lines and CSV for programs.

use std::io::{IsTerminal, Write};

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

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

/// A listing's rows: columns in order, each row as JSON values (for `jsonl`) and as texts (for the others).
pub struct Listing {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Listing {
    /// An empty listing with these columns.
    #[must_use]
    pub fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row; its values are in the columns' order.
    pub fn row(&mut self, values: Vec<Value>) {
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(values);
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes it all.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn print(&self, format: Format) -> std::io::Result<()> {
        match format {
            Format::Jsonl => {
                let mut out = Vec::new();
                for row in &self.rows {
                    let object: serde_json::Map<String, Value> =
                        self.columns.iter().map(|c| (*c).to_owned()).zip(row.iter().cloned()).collect();
                    serde_json::to_writer(&mut out, &object)?;
                    out.push(b'\n');
                }
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
        let mut table = new_table();
        table.set_header(self.columns.iter().map(|c| c.replace('_', " ")));
        for row in &self.rows {
            table.add_row(row.iter().map(plain));
        }
        table
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
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Writes bytes to stdout.
///
/// # Errors
/// When stdout is gone.
pub fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

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

/// One observation as `scan --format jsonl` promises it.
#[must_use]
pub fn observation(seen: &Observation, zone: chrono_tz::Tz) -> Value {
    json!({
        "customer": seen.customer.as_str(),
        "site": seen.site.as_ref().map(|s| s.as_str()),
        "verdict": seen.verdict.as_str(),
        "reason": seen.verdict.reason().map(|r| r.as_str()),
        "server_type": seen.server_type.map(|s| s.as_str()),
        "auth_method": seen.auth_method.map(|m| m.as_str()),
        "raw": { "server_type": seen.raw.server_type, "auth_method": seen.raw.auth_method },
        "detail": seen.detail,
        "observed_at": time(seen.observed_at, zone),
    })
}

/// The columns of an observation in tables and CSV.
pub const OBSERVATION_COLUMNS: &[&str] =
    &["customer", "site", "verdict", "reason", "server_type", "auth_method", "detail", "observed_at"];

/// An observation's cells for [`OBSERVATION_COLUMNS`].
#[must_use]
pub fn observation_row(seen: &Observation, zone: chrono_tz::Tz) -> Vec<Value> {
    let object = observation(seen, zone);
    OBSERVATION_COLUMNS.iter().map(|column| object[*column].clone()).collect()
}
