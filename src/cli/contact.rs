//! `kigen contact`: the contacts whose address is dead, and how one comes to life again.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{self, FormatArg, Listing, Shown};
use super::{Global, who};
use crate::app;
use crate::daemon::Context;
use crate::daemon::contacts::{self, DeadLine};
use crate::domain::site::CustomerId;
use crate::store::{By, DeadContact};

#[derive(Debug, Args)]
pub(super) struct ContactArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the dead contacts, and who is told in their place
    List {
        #[command(flatten)]
        format: FormatArg,
    },
    /// Let a customer's dead address count as alive again: the next notice goes there
    Revive {
        /// The customer's id
        customer: String,
        /// The address, in full or as it is listed; all of the customer's if not given
        address: Option<String>,
    },
}

const COLUMNS: &[&str] = &["customer", "name", "address", "since_at", "why", "delivery", "left"];

const SHOWN: &[Shown] = &[
    Shown::one("customer", &["customer"]),
    Shown::one("name", &["name"]),
    Shown::one("address", &["address"]),
    Shown::one("since", &["since_at"]),
    Shown::one("told instead", &["left"]),
    Shown::one("because", &["why"]),
];

pub(super) async fn run(global: &Global, args: &ContactArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let result = match &args.action {
        Action::List { format } => list(&ctx, *format).await,
        Action::Revive { customer, address } => revive(&ctx, customer, address.as_deref()).await,
    };
    ctx.store.close().await;
    result
}

async fn list(ctx: &Context, format: FormatArg) -> anyhow::Result<ExitCode> {
    let zone = ctx.snapshot.config.calendar.zone;
    let mut listing = Listing::new(COLUMNS).shown(SHOWN);
    for DeadLine { contact, name, left } in contacts::dead(ctx).await? {
        listing.row(vec![
            json!(contact.customer.as_str()),
            json!(name),
            json!(contact.masked),
            json!(output::time(contact.since, zone)),
            json!(contact.why),
            json!(contact.delivery.0),
            json!(left.as_str()),
        ]);
    }
    listing.print(format.format)?;
    Ok(ExitCode::SUCCESS)
}

async fn revive(ctx: &Context, customer: &str, address: Option<&str>) -> anyhow::Result<ExitCode> {
    let Ok(id) = CustomerId::new(customer) else { bail!("customer {customer:?} is no customer's id") };
    let meant = |c: &DeadContact| c.customer == id && address.is_none_or(|address| contacts::is_meant(c, address));
    let all = ctx.store.dead_contacts().await?;
    let found: Vec<DeadContact> = all.into_iter().filter(meant).collect();
    if found.is_empty() {
        bail!(
            "customer {id} has no dead contact{}; see kigen contact list",
            address.map_or("", |_| " of that address")
        );
    }
    let at = ctx.now();
    let by = By { who: who(), at, day: ctx.snapshot.config.calendar.day(at) };
    contacts::revive(ctx, &found, &by).await?;
    for contact in &found {
        output::say!("{} of {id} counts as alive again; what came back is not sent again by itself", contact.masked);
    }
    Ok(ExitCode::SUCCESS)
}
