//! `kigen outbox`: the queue, and what a person does with it.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{self, FormatArg, Listing, Shown};
use super::{Global, who};
use crate::app;
use crate::daemon::Context;
use crate::domain::delivery::{DeliveryId, DeliveryState};
use crate::store::{Acted, By, Delivery, OutboxAction, OutboxFilter};

#[derive(Debug, Args)]
pub(super) struct OutboxArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the mails in the outbox, the newest first
    List {
        /// Only mails in this state; may be given several times
        #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(DeliveryState::WORDS))]
        state: Vec<String>,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Show one mail: its state, attempts and the whole message
    Show {
        /// Its number
        id: i64,
    },
    /// Release held mails
    Approve {
        /// Their numbers
        #[arg(required_unless_present = "all")]
        ids: Vec<i64>,
        /// Every held mail
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Try failed, unknown or waiting mails again at once
    Retry {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<i64>,
    },
    /// Drop held or queued mails; they count as had
    Cancel {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<i64>,
    },
}

pub(super) async fn run(global: &Global, args: &OutboxArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let result = match &args.action {
        Action::List { state, format } => list(&ctx, state, *format).await,
        Action::Show { id } => show(&ctx, DeliveryId(*id)).await,
        Action::Approve { ids, all } => {
            let ids = if *all { all_held(&ctx).await? } else { numbers(ids) };
            act(&ctx, &ids, OutboxAction::Approve, "approved").await
        }
        Action::Retry { ids } => act(&ctx, &numbers(ids), OutboxAction::Retry, "queued again").await,
        Action::Cancel { ids } => act(&ctx, &numbers(ids), OutboxAction::Cancel, "cancelled").await,
    };
    ctx.store.close().await;
    result
}

fn numbers(ids: &[i64]) -> Vec<DeliveryId> {
    ids.iter().copied().map(DeliveryId).collect()
}

async fn all_held(ctx: &Context) -> anyhow::Result<Vec<DeliveryId>> {
    let filter = OutboxFilter { states: vec!["held".to_owned()], ..OutboxFilter::default() };
    let mut ids: Vec<DeliveryId> = ctx.store.deliveries(&filter).await?.iter().map(|d| d.id).collect();
    ids.sort();
    Ok(ids)
}

const COLUMNS: &[&str] = &[
    "id",
    "state",
    "held",
    "customer",
    "campaign",
    "kind",
    "milestone",
    "sites",
    "attempts",
    "created_at",
    "state_at",
    "because",
    "detail",
];

const SHOWN: &[Shown] = &[
    Shown::one("id", &["id"]),
    Shown::joined("state", &["state", "held"], ": "),
    Shown::one("since", &["state_at"]),
    Shown::one("customer", &["customer"]),
    Shown::if_varied("campaign", &["campaign"]),
    Shown::joined("notice", &["kind", "milestone"], " "),
    Shown::one("sites", &["sites"]),
    Shown::one("attempts", &["attempts"]),
    Shown::one("detail", &["detail"]),
];

async fn list(ctx: &Context, states: &[String], format: FormatArg) -> anyhow::Result<ExitCode> {
    let zone = ctx.snapshot.config.calendar.zone;
    let filter = OutboxFilter { states: states.to_vec(), ..OutboxFilter::default() };
    let mut listing = Listing::new(COLUMNS).shown(SHOWN);
    for d in ctx.store.deliveries(&filter).await? {
        listing.row(vec![
            json!(d.id.0),
            json!(d.state.as_str()),
            held(&d.state),
            json!(d.facts.key.customer.as_str()),
            json!(d.facts.key.campaign.0),
            json!(d.facts.key.kind.as_str()),
            json!(d.facts.milestone),
            json!(d.sites.iter().map(|s| s.as_str()).collect::<Vec<_>>()),
            json!(d.attempts),
            json!(output::time(d.created_at, zone)),
            json!(output::time(d.state_at, zone)),
            json!(d.facts.because),
            json!(d.detail),
        ]);
    }
    listing.print(format.format)?;
    Ok(ExitCode::SUCCESS)
}

fn held(state: &DeliveryState) -> Value {
    match state {
        DeliveryState::Held(why) => json!(why.as_str()),
        _ => Value::Null,
    }
}

async fn show(ctx: &Context, id: DeliveryId) -> anyhow::Result<ExitCode> {
    let zone = ctx.snapshot.config.calendar.zone;
    let Some((claimed, attempts)) = ctx.store.delivery(id).await? else { bail!("there is no delivery {id}") };
    let mut text = head(&claimed.delivery, zone);
    for a in attempts {
        let ended = a.finished_at.map_or_else(|| "not ended".to_owned(), |at| output::time(at, zone));
        text.push_str(&format!(
            "attempt {}: {} .. {ended}: {} {}\n",
            a.number,
            output::time(a.started_at, zone),
            a.outcome.as_deref().unwrap_or("running, or its process died"),
            a.reply.as_deref().unwrap_or_default()
        ));
    }
    text.push('\n');
    let mut out = text.into_bytes();
    out.extend_from_slice(&claimed.message.raw);
    output::write(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn head(d: &Delivery, zone: chrono_tz::Tz) -> String {
    let key = &d.facts.key;
    let mut text = format!(
        "delivery {}: {} {} notice, round {}, campaign {}\nstate: {} since {}{}\nbecause: {}\n",
        d.id,
        key.customer,
        key.kind,
        key.round,
        key.campaign,
        d.state.as_str(),
        output::time(d.state_at, zone),
        d.detail.as_ref().map(|why| format!(" ({why})")).unwrap_or_default(),
        d.facts.because,
    );
    if let Some((who, at)) = &d.approved {
        text.push_str(&format!("approved by {who} at {}\n", output::time(*at, zone)));
    }
    for r in &d.recipients {
        let reply = r.reply.as_ref().map(|reply| format!(": {reply}")).unwrap_or_default();
        text.push_str(&format!("to {} {}{reply}\n", r.address.as_str(), r.state.as_str()));
    }
    text
}

async fn act(ctx: &Context, ids: &[DeliveryId], action: OutboxAction, done: &str) -> anyhow::Result<ExitCode> {
    let at = ctx.now();
    let by = By { who: who(), at, day: ctx.snapshot.config.calendar.day(at) };
    let acted = ctx.store.act(ids, action, &by).await.context("cannot change the outbox")?;
    let mut failed = false;
    for (id, acted) in ids.iter().zip(acted) {
        match acted {
            Acted::Done => output::say!("{id}: {done}"),
            Acted::Unknown => {
                failed = true;
                output::say!("{id}: there is no such delivery");
            }
            Acted::NotNow(state) => {
                failed = true;
                output::say!("{id}: is {}, so it cannot be {done}", state.as_str());
            }
        }
    }
    if ids.is_empty() {
        output::say!("nothing is held");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
