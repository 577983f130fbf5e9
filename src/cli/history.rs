//! `kigen history`: what was seen, decided, sent and answered for one customer.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::Global;
use super::output::{self, FormatArg, Listing};
use crate::app;
use crate::domain::site::CustomerId;

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The customer's id
    customer: String,
    #[command(flatten)]
    format: FormatArg,
}

const COLUMNS: &[&str] = &["at", "what", "text"];

/// The store tells the end of what was seen in UTC; here it stands beside times of the configured zone.
fn in_zone(text: &str, zone: chrono_tz::Tz) -> String {
    let Some((before, until)) = text.rsplit_once("; seen until ") else { return text.to_owned() };
    match chrono::DateTime::parse_from_rfc3339(until) {
        Ok(at) => format!("{before}; seen until {}", output::time(at.to_utc(), zone)),
        Err(_) => text.to_owned(),
    }
}

pub(super) async fn run(global: &Global, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let id = CustomerId::new(&args.customer).with_context(|| format!("customer {:?}", args.customer))?;
    let ctx = app::open(&global.config).await?;
    let zone = ctx.snapshot.config.calendar.zone;
    let history = ctx.store.history(&id).await?;
    ctx.store.close().await;
    let Some(history) = history else {
        bail!("customer {id} is not known; is it in the customers file, and was it scanned?")
    };
    let mut listing = Listing::new(COLUMNS);
    for entry in history {
        listing.row(vec![
            json!(output::time(entry.at, zone)),
            json!(entry.what.as_str()),
            json!(in_zone(&entry.text, zone)),
        ]);
    }
    listing.print(args.format.format)?;
    Ok(ExitCode::SUCCESS)
}
