//! `kigen status`: the fleet at a glance.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::Global;
use super::output::{self, new_table};
use crate::app;
use crate::daemon::{Context, schedule};
use crate::store::RunKind;

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

pub(super) async fn run(global: &Global, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let status = status(&ctx).await;
    ctx.store.close().await;
    let status = status?;
    let text = match args.format {
        StatusFormat::Json => format!("{status}\n"),
        StatusFormat::Table => format!("{}\n", table(&status)),
    };
    output::write(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn status(ctx: &Context) -> anyhow::Result<Value> {
    let now = ctx.now();
    let config = &ctx.snapshot.config;
    let zone = config.calendar.zone;
    let today = config.calendar.day(now);
    let counts = ctx.store.site_counts().await?;
    let last = ctx.store.last_run(RunKind::Scan, false).await?;
    let outbox: Map<String, Value> =
        ctx.store.outbox_counts().await?.into_iter().map(|(state, n)| (state.to_owned(), json!(n))).collect();
    let operators: Map<String, Value> =
        ctx.store.operator_mail_counts().await?.into_iter().map(|(state, n)| (state, json!(n))).collect();
    let holds: Vec<Value> = ctx
        .store
        .holds()
        .await?
        .iter()
        .map(|h| json!({"kind": h.kind.as_str(), "reason": h.reason, "set_by": h.set_by, "set_at": output::time(h.set_at, zone)}))
        .collect();
    let campaigns: Vec<Value> = ctx
        .snapshot
        .campaigns()
        .iter()
        .map(
            |c| json!({"id": c.id.0, "deadline": c.deadline.to_string(), "days_left": (c.deadline - today).num_days()}),
        )
        .collect();
    let next = |kind| output::time_or_null(schedule::next(ctx, kind), zone);
    Ok(json!({
        "at": output::time(now, zone),
        "mode": config.mode.as_str(),
        "campaigns": campaigns,
        "sites": {
            "affected": counts.affected,
            "switched": counts.switched,
            "consent_missing": counts.consent_missing,
            "not_exchange_online": counts.not_exchange_online,
            "unreadable": counts.unreadable,
        },
        "customers": ctx.store.customer_count().await?,
        "last_scan": last.map(|run| json!({
            "started_at": output::time(run.started_at, zone),
            "finished_at": output::time_or_null(run.finished_at, zone),
            "outcome": run.outcome.map(|o| o.as_str()),
            "sites": run.counts.sites,
            "unreadable": run.counts.unreadable,
        })),
        "next": { "scan": next(RunKind::Scan), "notices": next(RunKind::Notices), "digest": next(RunKind::Digest) },
        "outbox": outbox,
        "operator_mails": operators,
        "holds": holds,
    }))
}

fn table(status: &Value) -> String {
    let text = |v: &Value| match v {
        Value::Null => "never".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let pairs = |v: &Value| {
        v.as_object()
            .map(|o| o.iter().map(|(k, v)| format!("{} {}", k, text(v))).collect::<Vec<_>>().join(", "))
            .unwrap_or_default()
    };
    let mut table = new_table();
    table.add_row(["at", &text(&status["at"])]);
    table.add_row(["mode", &text(&status["mode"])]);
    for c in status["campaigns"].as_array().into_iter().flatten() {
        let line =
            format!("{}: deadline {}, {} days left", text(&c["id"]), text(&c["deadline"]), text(&c["days_left"]));
        table.add_row(["campaign", &line]);
    }
    table.add_row(["customers", &text(&status["customers"])]);
    table.add_row(["sites", &pairs(&status["sites"])]);
    let last = &status["last_scan"];
    let last = if last.is_null() {
        "never".to_owned()
    } else {
        format!(
            "{}, {}, {} sites, {} unreadable",
            text(&last["started_at"]),
            text(&last["outcome"]),
            last["sites"],
            last["unreadable"]
        )
    };
    table.add_row(["last scan", &last]);
    table.add_row(["next", &pairs(&status["next"])]);
    table.add_row(["outbox", &pairs(&status["outbox"])]);
    table.add_row(["to operators", &pairs(&status["operator_mails"])]);
    for hold in status["holds"].as_array().into_iter().flatten() {
        let line = format!("{} (by {}, {})", text(&hold["reason"]), text(&hold["set_by"]), text(&hold["set_at"]));
        table.add_row(["HOLD", &line]);
    }
    table.to_string()
}
