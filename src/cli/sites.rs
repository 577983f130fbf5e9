//! `kigen sites`: the sites with their newest observation.

use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::{Value, json};

use super::Global;
use super::output::{self, Format, FormatArg, Listing, ObservationLine, Shown};
use crate::app;
use crate::domain::observation::Verdict;

#[derive(Debug, Args)]
pub(super) struct SitesArgs {
    /// Only sites with this verdict; may be given several times
    #[arg(long, value_name = "VERDICT", value_parser = PossibleValuesParser::new(Verdict::WORDS))]
    verdict: Vec<String>,
    #[command(flatten)]
    format: FormatArg,
}

const COLUMNS: &[&str] =
    &["customer", "name", "site", "verdict", "reason", "server_type", "auth_method", "detail", "observed_at"];

const SHOWN: &[Shown] = &[
    Shown::one("customer", &["customer"]),
    Shown::one("name", &["name"]),
    Shown::one("site", &["site"]),
    Shown::joined("verdict", &["verdict", "reason"], ": "),
    Shown::one("seen", &["observed_at"]),
];

/// A line of `jsonl`: what a scan says of the site, and what is known besides.
#[derive(Serialize)]
struct SiteLine<'a> {
    #[serde(flatten)]
    seen: ObservationLine<'a>,
    name: &'a str,
    unreadable_scans: u32,
}

pub(super) async fn run(global: &Global, args: &SitesArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let zone = ctx.snapshot.config.calendar.zone;
    let rows = ctx.store.sites(&args.verdict).await?;
    ctx.store.close().await;
    if args.format.format == Format::Jsonl {
        let mut out = Vec::new();
        for row in &rows {
            let seen = output::observation(&row.seen, zone);
            let line = SiteLine { seen, name: &row.customer_name, unreadable_scans: row.unreadable_scans };
            serde_json::to_writer(&mut out, &line)?;
            out.push(b'\n');
        }
        output::write(&out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut listing = Listing::new(COLUMNS).shown(SHOWN);
    for row in &rows {
        let mut cells: Vec<Value> = output::observation_row(&row.seen, zone);
        cells.insert(1, json!(row.customer_name));
        listing.row(cells);
    }
    listing.print(args.format.format)?;
    Ok(ExitCode::SUCCESS)
}
