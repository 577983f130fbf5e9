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

pub(super) async fn run(global: &Global, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let id = CustomerId::new(&args.customer).with_context(|| format!("customer {:?}", args.customer))?;
    let ctx = app::open(&global.config).await?;
    let zone = ctx.snapshot.config.calendar.zone;
    let history = ctx.store.history(&id).await?;
    ctx.store.close().await;
    let Some(history) = history else {
        bail!("customer {id} is not known; is it in the customers file, and was it scanned?")
    };
    let mut listing = Listing::new(&["at", "what", "text"]);
    for entry in history {
        listing.row(vec![json!(output::time(entry.at, zone)), json!(entry.what.as_str()), json!(entry.text)]);
    }
    listing.print(args.format.format)?;
    Ok(ExitCode::SUCCESS)
}
