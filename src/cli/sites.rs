//! `kigen sites`: the sites with their newest observation.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::Global;
use super::output::{self, Format, FormatArg, Listing};
use crate::app;
use crate::domain::observation::Verdict;

#[derive(Debug, Args)]
pub(super) struct SitesArgs {
    /// Only sites with this verdict; may be given several times
    #[arg(long, value_name = "VERDICT")]
    verdict: Vec<String>,
    #[command(flatten)]
    format: FormatArg,
}

const COLUMNS: &[&str] =
    &["customer", "name", "site", "verdict", "reason", "server_type", "auth_method", "detail", "observed_at"];

pub(super) async fn run(global: &Global, args: &SitesArgs) -> anyhow::Result<ExitCode> {
    if let Some(bad) = args.verdict.iter().find(|v| !Verdict::WORDS.contains(&v.as_str())) {
        bail!("--verdict {bad}: no such verdict; one of {}", Verdict::WORDS.join(", "));
    }
    let ctx = app::open(&global.config).await?;
    let zone = ctx.snapshot.config.calendar.zone;
    let rows = ctx.store.sites(&args.verdict).await?;
    ctx.store.close().await;
    if args.format.format == Format::Jsonl {
        let mut out = Vec::new();
        for row in &rows {
            let mut object = output::observation(&row.seen, zone);
            object["name"] = json!(row.customer_name);
            object["unreadable_scans"] = json!(row.unreadable_scans);
            serde_json::to_writer(&mut out, &object)?;
            out.push(b'\n');
        }
        output::write(&out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut listing = Listing::new(COLUMNS);
    for row in &rows {
        let mut cells: Vec<Value> = output::observation_row(&row.seen, zone);
        cells.insert(1, json!(row.customer_name));
        listing.row(cells);
    }
    listing.print(args.format.format)?;
    Ok(ExitCode::SUCCESS)
}
