//! `kigen status`: the fleet at a glance.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use super::Global;
use super::output::{self, new_table, short_time};
use crate::app;
use crate::daemon::{Context, schedule};
use crate::store::{Run, RunKind};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The form
    #[arg(long, value_enum, default_value = "table")]
    format: StatusFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    /// For people
    Table,
    /// One JSON object
    Json,
}

/// The object of `--format json`; its keys are promises.
#[derive(Serialize)]
struct Status {
    at: String,
    mode: &'static str,
    campaigns: Vec<CampaignStatus>,
    sites: Sites,
    customers: u64,
    last_scan: Option<LastScan>,
    next: Next,
    outbox: Outbox,
    holds: Vec<HoldStatus>,
    /// Only where several share the state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeStatus>,
    /// Mails to the operators by state, for the table only.
    #[serde(skip)]
    operator_mails: Vec<(String, u64)>,
}

#[derive(Serialize)]
struct CampaignStatus {
    id: String,
    deadline: String,
    days_left: i64,
}

#[derive(Serialize)]
struct Sites {
    affected: u64,
    switched: u64,
    consent_missing: u64,
    not_exchange_online: u64,
    unreadable: u64,
}

#[derive(Serialize)]
struct LastScan {
    started_at: String,
    finished_at: Option<String>,
    sites: u64,
    unreadable: u64,
    /// For the table only.
    #[serde(skip)]
    how: &'static str,
}

#[derive(Serialize)]
struct Next {
    scan: Option<String>,
    notices: Option<String>,
    digest: Option<String>,
}

/// Every state's count, in the order of reports.
struct Outbox(Vec<(&'static str, u64)>);

impl Serialize for Outbox {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

#[derive(Serialize)]
struct NodeStatus {
    name: String,
    version: String,
    started_at: String,
    beat_at: String,
    alive: bool,
    resting: bool,
}

#[derive(Serialize)]
struct HoldStatus {
    kind: &'static str,
    reason: String,
    set_by: String,
    set_at: String,
}

pub(super) async fn run(global: &Global, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let status = status(&ctx).await;
    ctx.store.close().await;
    let status = status?;
    let text = match args.format {
        StatusFormat::Json => format!("{}\n", serde_json::to_string(&status)?),
        StatusFormat::Table => format!("{}\n", table(&status)),
    };
    output::write(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn status(ctx: &Context) -> anyhow::Result<Status> {
    let now = ctx.now();
    let config = &ctx.snapshot.config;
    let zone = config.calendar.zone;
    let today = config.calendar.day(now);
    let counts = ctx.store.site_counts().await?;
    let campaigns = ctx.snapshot.campaigns();
    let campaigns = campaigns.iter().map(|c| CampaignStatus {
        id: c.id.0.clone(),
        deadline: c.deadline.to_string(),
        days_left: (c.deadline - today).num_days(),
    });
    let next = |kind| schedule::next(ctx, kind).map(|at| output::time(at, zone));
    let holds = ctx.store.holds().await?.into_iter().map(|h| HoldStatus {
        kind: h.kind.as_str(),
        reason: h.reason,
        set_by: h.set_by,
        set_at: output::time(h.set_at, zone),
    });
    Ok(Status {
        at: output::time(now, zone),
        mode: config.mode.as_str(),
        campaigns: campaigns.collect(),
        sites: Sites {
            affected: counts.affected,
            switched: counts.switched,
            consent_missing: counts.consent_missing,
            not_exchange_online: counts.not_exchange_online,
            unreadable: counts.unreadable,
        },
        customers: ctx.store.customer_count().await?,
        last_scan: ctx.store.last_run(RunKind::Scan, false).await?.map(|run| last_scan(&run, zone)),
        next: Next { scan: next(RunKind::Scan), notices: next(RunKind::Notices), digest: next(RunKind::Digest) },
        outbox: Outbox(ctx.store.outbox_counts().await?),
        holds: holds.collect(),
        nodes: nodes(ctx, now).await?,
        operator_mails: ctx.store.operator_mail_counts().await?,
    })
}

async fn nodes(ctx: &Context, now: crate::domain::Timestamp) -> anyhow::Result<Vec<NodeStatus>> {
    let (zone, lease) = (ctx.snapshot.config.calendar.zone, ctx.snapshot.config.cluster.lease);
    let node = |node: crate::store::Node| NodeStatus {
        alive: node.beat_at > now - lease,
        resting: node.resting,
        started_at: output::time(node.started_at, zone),
        beat_at: output::time(node.beat_at, zone),
        name: node.name,
        version: node.version,
    };
    Ok(ctx.store.nodes().await?.into_iter().map(node).collect())
}

fn last_scan(run: &Run, zone: chrono_tz::Tz) -> LastScan {
    LastScan {
        started_at: output::time(run.started_at, zone),
        finished_at: run.finished_at.map(|at| output::time(at, zone)),
        sites: run.counts.sites,
        unreadable: run.counts.unreadable,
        how: run.outcome.map_or("running", |outcome| outcome.as_str()),
    }
}

fn table(status: &Status) -> String {
    let when = |at: &Option<String>| at.as_deref().map_or_else(|| "never".to_owned(), short_time);
    let mut table = new_table();
    table.add_row(["at", &short_time(&status.at)]);
    table.add_row(["mode", status.mode]);
    for c in &status.campaigns {
        let left = match c.days_left {
            0 => "today".to_owned(),
            days if days < 0 => format!("{} days ago", -days),
            days => format!("{days} days left"),
        };
        table.add_row(["campaign", &format!("{}: deadline {}, {left}", c.id, c.deadline)]);
    }
    table.add_row(["customers", &status.customers.to_string()]);
    let s = &status.sites;
    let sites = [
        ("affected", s.affected),
        ("switched", s.switched),
        ("consent_missing", s.consent_missing),
        ("not_exchange_online", s.not_exchange_online),
        ("unreadable", s.unreadable),
    ];
    table.add_row(["sites", &counted(sites.iter())]);
    let last = status.last_scan.as_ref().map_or_else(
        || "never".to_owned(),
        |l| format!("{}, {}: {} sites, {} unreadable", short_time(&l.started_at), l.how, l.sites, l.unreadable),
    );
    table.add_row(["last scan", &last]);
    table.add_row(["next scan", &when(&status.next.scan)]);
    table.add_row(["next notices", &when(&status.next.notices)]);
    table.add_row(["next digest", &when(&status.next.digest)]);
    table.add_row(["outbox", &counted(status.outbox.0.iter().filter(|(_, n)| *n > 0))]);
    table.add_row(["to operators", &counted(status.operator_mails.iter().filter(|(_, n)| *n > 0))]);
    for node in &status.nodes {
        let how = match (node.alive, node.resting) {
            (false, _) => "silent",
            (true, true) => "takes no work, as it is older than the state",
            (true, false) => "alive",
        };
        table.add_row(["node", &format!("{}: {how}, last heard of {}", node.name, short_time(&node.beat_at))]);
    }
    for hold in &status.holds {
        let line = format!("{} (by {}, {})", hold.reason, hold.set_by, short_time(&hold.set_at));
        table.add_row(["HOLD", &line]);
    }
    table.to_string()
}

fn counted<'a, W: std::fmt::Display + 'a>(words: impl Iterator<Item = &'a (W, u64)>) -> String {
    let all: Vec<String> = words.map(|(word, n)| format!("{n} {word}")).collect();
    if all.is_empty() { "empty".to_owned() } else { all.join(", ") }
}
