//! `kigen demo`: the whole product on loopback, in a temporary folder, on a virtual clock.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::output::{self, new_table};
use super::{Global, stop_on_signal};
use crate::daemon::reload::Live;
use crate::demo::replay::{DayLine, FIRST_DAY, Replay, ReplayOptions, Summary};
use crate::web::{self, Parts};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Simulated customers
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=9999))]
    customers: u32,
    /// Days to replay
    #[arg(long, value_name = "D", default_value_t = 82, value_parser = clap::value_parser!(u32).range(1..=400))]
    days: u32,
    /// Do not serve the dashboard afterwards
    #[arg(long)]
    no_web: bool,
}

pub(super) async fn run(_global: &Global, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let dir =
        tempfile::Builder::new().prefix("kigen-demo-").tempdir().context("cannot make a temporary folder")?.keep();
    let customers = usize::try_from(args.customers)?;
    let options = ReplayOptions { customers, days: args.days, dir: dir.clone() };
    output::say!(
        "A simulated admin tool, Microsoft side, mail server and {customers} customers on loopback; {} days from {FIRST_DAY}, deadline 2022-10-01.",
        args.days
    );
    let started = Instant::now();
    let mut replay = Replay::start(options).await?;
    replay.run(&stop, |line| output::say!("{}", day_line(line))).await?;
    let summary = replay.summarise().await?;
    output::write(format!("{}\n", table(&summary)).as_bytes())?;
    tell(&dir, started);
    if !args.no_web && !stop.is_cancelled() {
        serve(&replay, &stop).await?;
    }
    replay.end().await;
    let wrong = summary.misread + summary.misdirected + summary.repeated + usize::try_from(summary.saves)?;
    if wrong > 0 {
        bail!("the demo broke a promise: see the table");
    }
    Ok(ExitCode::SUCCESS)
}

/// The dashboard on the replayed state, until told to stop.
async fn serve(replay: &Replay, stop: &CancellationToken) -> anyhow::Result<()> {
    let ctx = replay.context();
    let mut address = ctx.snapshot.config.web.listen;
    // The usual port may belong to the real thing.
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(_) => {
            address.set_port(0);
            TcpListener::bind(address).await.context("loopback gives no port for the dashboard")?
        }
    };
    output::say!("The dashboard: http://{}/  (Ctrl-C ends it)", listener.local_addr()?);
    let (_beat, heartbeat) = watch::channel(tokio::time::Instant::now());
    let parts = Parts { live: Live::new(ctx), heartbeat, wake_mail: Arc::new(Notify::new()), stop: stop.clone() };
    web::serve(listener, parts).await.context("the dashboard ended")
}

fn day_line(line: &DayLine) -> String {
    let mut text = format!(
        "{} {}  {:>4} days left  {:>4} sites affected  {:>4} mails",
        line.day,
        line.day.format("%a"),
        line.days_left,
        line.affected,
        line.mails
    );
    if line.approved > 0 {
        text.push_str(&format!("  ({} held ones approved by the operator)", line.approved));
    }
    if line.changed > 0 {
        text.push_str(&format!("  {} sites changed in the evening", line.changed));
    }
    text
}

fn table(s: &Summary) -> String {
    let mut table = new_table();
    table.set_header(["a campaign, replayed", "customers"]);
    let mut row = |what: &str, n: String| {
        table.add_row([what.to_owned(), n]);
    };
    row("in the fleet", s.customers.to_string());
    row("affected at the first scan", s.affected_at_start.to_string());
    row("  of these, told", s.told.to_string());
    row("switched since", s.switched.to_string());
    row("switched back at least once", s.relapsed.to_string());
    row("still affected", s.still_affected.to_string());
    row("  of these, never told (notify = no)", s.untold.to_string());
    row("switched, but without consent", s.without_consent.to_string());
    row("  of these, consented since", s.consented.to_string());
    row("with a site that cannot be read", s.unreadable.to_string());
    row("mails sent", s.mails.values().sum::<u64>().to_string());
    for (kind, n) in &s.mails {
        row(&format!("  {kind}"), n.to_string());
    }
    table.add_row(["promises broken", ""]);
    for (what, n) in [
        ("  settings misread", s.misread as u64),
        ("  mails misdirected", s.misdirected as u64),
        ("  mails repeated", s.repeated as u64),
        ("  buttons pressed", s.saves),
    ] {
        table.add_row([what.to_owned(), n.to_string()]);
    }
    if let Some(numbers) = table.column_mut(1) {
        numbers.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    table.to_string()
}

fn tell(dir: &Path, started: Instant) {
    let dir = dir.display();
    output::say!("Replayed in {:.0} s. It all stays in {dir}:", started.elapsed().as_secs_f64());
    output::say!("  mails/        every mail as it was received (.eml)");
    output::say!(
        "  kigen.db      the state; try `kigen -c {dir}/config.toml status`, `sites`, `outbox list`, `history C0001`"
    );
}
