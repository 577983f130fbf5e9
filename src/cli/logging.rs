//! Log lines: to stderr as text or JSON, or to the journal with fields.

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
    let filter = EnvFilter::new(format!("warn,kigen={level}"));
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let format = global.log_format.unwrap_or(if under_systemd { LogFormat::Journald } else { LogFormat::Text });
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => registry.with(stderr().json().flatten_event(true)).init(),
        LogFormat::Text => {
            registry.with(stderr().with_target(false).with_ansi(global.color()).with_timer(ClockTime)).init();
        }
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => {
                let journal =
                    journal.with_field_prefix(Some("KIGEN".to_owned())).with_syslog_identifier("kigen".to_owned());
                registry.with(journal).init();
            }
            Err(_) => registry.with(stderr().with_ansi(false).without_time()).init(),
        },
    }
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
