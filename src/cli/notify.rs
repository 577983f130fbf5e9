//! `kigen notify`: one notice pass now, and the deliveries it makes.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::output::{self, FormatArg, Listing, Shown};
use super::progress::Bar;
use super::{Global, stop_on_signal};
use crate::app;
use crate::config::Mode;
use crate::daemon::Context;
use crate::daemon::deliver::{self, Delivered, Until};
use crate::daemon::notify::{Fate, PassReport, Passed, pass};
use crate::daemon::reload::Live;
use crate::store::{Lead, OutboxFilter};

#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    #[command(flatten)]
    format: FormatArg,
}

const COLUMNS: &[&str] =
    &["customer", "campaign", "kind", "milestone", "sites", "outcome", "delivery", "because", "detail"];

const SHOWN: &[Shown] = &[
    Shown::one("customer", &["customer"]),
    Shown::if_varied("campaign", &["campaign"]),
    Shown::joined("notice", &["kind", "milestone"], " "),
    Shown::one("sites", &["sites"]),
    Shown::joined("outcome", &["outcome", "detail"], ": "),
    Shown::one("delivery", &["delivery"]),
    Shown::one("because", &["because"]),
];

pub(super) async fn run(global: &Global, args: &NotifyArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let ctx = app::open(&global.config).await?;
    let zone = ctx.snapshot.config.calendar.zone;
    let bar = Arc::new(Bar::new("notices"));
    let passed = pass(&ctx, None, &stop, bar.as_ref()).await;
    bar.finish();
    let report = match passed? {
        Passed::Ran(report) => report,
        Passed::AlreadyDone => bail!("this pass was done already"),
        Passed::Running(run) => {
            bail!("another pass is running since {} ({})", output::time(run.started_at, zone), run.owner)
        }
    };
    let delivered = deliver_now(&ctx, &stop).await;
    let listing = list(&report);
    listing.print(args.format.format)?;
    tell(&ctx, &report);
    for hold in ctx.store.holds().await? {
        output::say!("no customer mail leaves: {}; `kigen resume` ends that", hold.reason);
    }
    let failed = report.notices.iter().any(|n| matches!(n.fate, Fate::Failed(_)));
    let blocked = waiting(&ctx).await?;
    ctx.store.close().await;
    let delivered = delivered?;
    if ctx.snapshot.config.mode != Mode::DryRun {
        output::say!(
            "delivered: {} sent, {} deferred, {} failed, {} unknown, {} dropped; {blocked} still queued",
            delivered.sent,
            delivered.deferred,
            delivered.failed,
            delivered.unknown,
            delivered.dropped
        );
    }
    if failed {
        bail!("some notices could not be made; see the list");
    }
    if report.interrupted {
        bail!("the pass was interrupted; what is queued stays queued");
    }
    Ok(if delivered.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Delivers here, unless a daemon works on this state: then the daemon does, within seconds.
async fn deliver_now(ctx: &Context, stop: &CancellationToken) -> anyhow::Result<Delivered> {
    if ctx.snapshot.config.mode == Mode::DryRun {
        return Ok(Delivered::default());
    }
    if let Lead::HeldBy(holder) = ctx.store.take_lead("kigen notify", ctx.now()).await? {
        output::say!("the running daemon delivers ({holder})");
        return Ok(Delivered::default());
    }
    let live = Live::new(ctx.clone());
    let bar = Arc::new(Bar::new("mails"));
    let done = deliver::deliver(live, Until::Drained, true, Arc::new(Notify::new()), stop.clone(), bar.clone()).await;
    bar.finish();
    done
}

async fn waiting(ctx: &Context) -> anyhow::Result<usize> {
    let filter = OutboxFilter { states: vec!["queued".to_owned()], ..OutboxFilter::default() };
    Ok(ctx.store.deliveries(&filter).await?.len())
}

fn list(report: &PassReport) -> Listing {
    let mut listing = Listing::new(COLUMNS).shown(SHOWN);
    for notified in &report.notices {
        let due = &notified.planned.due;
        let (delivery, detail) = match &notified.fate {
            Fate::Queued(id) => (json!(id.0), Value::Null),
            Fate::Held(id, held) => (json!(id.0), json!(held.as_str())),
            Fate::Overtaken(why) | Fate::NotFresh(why) | Fate::Failed(why) => (Value::Null, json!(why)),
            Fate::WouldQueue | Fate::Duplicate => (Value::Null, Value::Null),
        };
        listing.row(vec![
            json!(notified.planned.customer.as_str()),
            json!(notified.planned.campaign.0),
            json!(due.kind.as_str()),
            json!(due.milestone.map(|m| m.to_string())),
            json!(notified.planned.sites.iter().map(|s| s.as_str()).collect::<Vec<_>>()),
            json!(notified.fate.word()),
            delivery,
            json!(due.because),
            detail,
        ]);
    }
    listing
}

fn tell(ctx: &Context, report: &PassReport) {
    if let Some(off) = report.day_off {
        output::say!("nothing is sent today: {off}");
    }
    let counts = report.counts();
    output::say!("{} planned, {} queued, {} held", report.notices.len(), counts.queued, counts.held);
    if ctx.snapshot.config.mode == Mode::DryRun {
        output::say!("dry-run: nothing was put into the outbox (mode = \"dry-run\")");
    }
    let now = ctx.now();
    if !ctx.snapshot.config.calendar.is_open(now)
        && let Some(opens) = ctx.snapshot.config.calendar.opens_at(now)
    {
        let zone = ctx.snapshot.config.calendar.zone;
        output::say!("outside business_hours: mail leaves from {} on", output::time(opens, zone));
    }
}
