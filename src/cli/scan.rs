//! `kigen scan`: one scan now.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::output::{self, Format, FormatArg, Listing};
use super::progress::Bar;
use super::{Global, stop_on_signal};
use crate::app;
use crate::daemon::scan::{ScanRequest, Scanned, scan};
use crate::domain::site::CustomerId;

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// Only this customer; may be given several times
    #[arg(long, value_name = "ID")]
    customer: Vec<String>,
    /// Look and report, write nothing
    #[arg(long)]
    no_save: bool,
    #[command(flatten)]
    format: FormatArg,
}

pub(super) async fn run(global: &Global, args: &ScanArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let ctx = app::open(&global.config).await?;
    let zone = ctx.snapshot.config.calendar.zone;
    let mut only = Vec::new();
    for text in &args.customer {
        let id = CustomerId::new(text).with_context(|| format!("--customer {text:?}"))?;
        if !ctx.snapshot.knows(&id) {
            bail!("--customer {text}: not in {}", ctx.snapshot.config.fleet.customers.display());
        }
        only.push(id);
    }
    let request = ScanRequest { only, no_save: args.no_save, due_at: None };
    let bar = Bar::new("scan");
    let mut listing = Listing::new(output::OBSERVATION_COLUMNS).shown(output::OBSERVATION_SHOWN);
    let mut broken = None;
    let format = args.format.format;
    let result = scan(&ctx, &request, &stop, &bar, |seen| {
        for observation in seen {
            if format == Format::Jsonl {
                let line = format!("{}\n", output::observation(observation, zone));
                if let Err(error) = output::write(line.as_bytes()) {
                    broken.get_or_insert(error);
                    stop.cancel();
                }
            } else {
                listing.row(output::observation_row(observation, zone));
            }
        }
    })
    .await;
    bar.finish();
    ctx.store.close().await;
    if let Some(error) = broken {
        return Err(error.into());
    }
    let report = match result? {
        Scanned::Ran(report) | Scanned::Helped(report) => report,
        Scanned::AlreadyDone => bail!("this scan was done already"),
        Scanned::Running(run) => {
            bail!("another scan is running since {} ({})", output::time(run.started_at, zone), run.owner)
        }
    };
    if format != Format::Jsonl {
        listing.print(format)?;
    }
    let s = report.sites;
    output::say!(
        "{} customers, {} sites: {} affected, {} switched, {} consent_missing, {} not_exchange_online, {} unreadable",
        report.counts.customers,
        s.total(),
        s.affected,
        s.switched,
        s.consent_missing,
        s.not_exchange_online,
        s.unreadable
    );
    if let Some(why) = &report.stopped {
        bail!("the scan was stopped: {why}");
    }
    if report.interrupted {
        bail!("the scan was interrupted; what it saw is kept");
    }
    Ok(ExitCode::SUCCESS)
}
