//! Log lines: to stderr as text or JSON, or to the journal with fields (`KIGEN_…`).
//!
//! Invariant: no address, secret or page content at any level. What a library logs below `warn`, and what a panic says of
//! the data it met, is therefore not heard.

use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;

use clap::ValueEnum;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::prelude::*;

use super::Global;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
    /// The journal's own protocol, with fields
    Journald,
}

/// Sets up logging for the whole process, from `usual` on if nothing else is asked for. Libraries are heard from `warn`
/// on only: some of them log what they send.
pub fn init(global: &Global, usual: &'static str) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => usual,
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    // It quotes a line of the password file that it cannot read.
    let filter = EnvFilter::new(format!("warn,sqlx_postgres::options::pgpass=error,kigen={level}"));
    let format = global.log_format.unwrap_or(if stderr_is_journal() { LogFormat::Journald } else { LogFormat::Text });
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    std::panic::set_hook(Box::new(|panic| {
        // One entry, not a dozen lines that come apart in the journal; a task that panics is not the end of the daemon.
        tracing::error!("{}", describe(panic));
    }));
    match format {
        LogFormat::Json => registry.with(stderr().json().flatten_event(true)).init(),
        LogFormat::Text => {
            registry.with(stderr().with_target(false).with_ansi(global.color()).with_timer(ClockTime)).init();
        }
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => {
                let journal = journal
                    .with_field_prefix(Some("KIGEN".to_owned()))
                    .with_syslog_identifier("kigen".to_owned())
                    .with_priority_mappings(priorities());
                registry.with(journal).init();
            }
            Err(_) => registry.with(stderr().with_ansi(false).without_time()).init(),
        },
    }
}

/// systemd sets `JOURNAL_STREAM` to the device and inode of the journal's socket, and a child inherits it: it counts only
/// while stderr still is that socket (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = std::fs::metadata("/proc/self/fd/2").ok();
    stderr.is_some_and(|m| named == format!("{}:{}", m.dev(), m.ino()))
}

/// The journal's levels: info is info there too.
fn priorities() -> tracing_journald::PriorityMappings {
    use tracing_journald::{Priority, PriorityMappings};
    PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
        ..PriorityMappings::new()
    }
}

/// Where a thread panicked, and why as far as the program's own words go: what follows a colon or a quote may be data.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let payload = panic.payload();
    let text = payload.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
    let own = text.split([':', ';', '"', '\'', '`', '(']).next().unwrap_or_default();
    let own: String = own.chars().filter(|c| !c.is_control()).take(100).collect();
    format!("a bug in kigen: panicked at {place}: {}", own.trim())
}

/// Local time with its offset, to the second.
struct ClockTime;

impl tracing_subscriber::fmt::time::FormatTime for ClockTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        use crate::clock::Clock;
        let now = crate::clock::SystemClock.now().with_timezone(&chrono::Local);
        write!(w, "{}", now.format("%Y-%m-%dT%H:%M:%S%:z"))
    }
}
