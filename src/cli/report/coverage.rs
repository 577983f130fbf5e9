//! Every affected site: told when, accepted or not, and what comes next. No affected site is left out.

use serde_json::{Value, json};

use super::{Material, Next, accepted, outcome};
use crate::cli::output::{self, Listing, Shown};
use crate::domain::campaign::Standing;
use crate::domain::case::{Case, CaseSite};
use crate::domain::delivery::DeliveryState;
use crate::domain::site::SiteName;
use crate::store::Delivery;

const COLUMNS: &[&str] = &[
    "customer",
    "name",
    "reference",
    "site",
    "campaign",
    "affected_since",
    "deadline",
    "days_left",
    "notices",
    "first_told_at",
    "told_at",
    "told_kind",
    "outcome",
    "next_day",
    "next_kind",
    "next_milestone",
    "because",
];

const SHOWN: &[Shown] = &[
    Shown::one("customer", &["customer"]),
    Shown::one("name", &["name"]),
    Shown::one("site", &["site"]),
    Shown::if_varied("campaign", &["campaign"]),
    Shown::one("days left", &["days_left"]),
    Shown::one("told", &["told_at"]),
    Shown::one("outcome", &["outcome"]),
    Shown::joined("next", &["next_day", "next_kind", "next_milestone"], " ").or("because"),
];

pub(super) fn listing(material: &Material<'_>) -> anyhow::Result<Listing> {
    let mut listing = Listing::new(COLUMNS).shown(SHOWN);
    for (customer, cases) in &material.cases {
        let affected = |case: &&Case| case.any(Standing::Affected);
        if !cases.iter().any(|case| affected(&case)) {
            continue;
        }
        let next = material.next(customer);
        for case in cases.iter().filter(affected) {
            for (name, site) in case.standing(Standing::Affected) {
                listing.row(row(material, case, name, site, &next));
            }
        }
    }
    Ok(listing)
}

fn row(material: &Material<'_>, case: &Case, name: &SiteName, site: &CaseSite, next: &Next) -> Vec<Value> {
    let zone = material.ctx.snapshot.config.calendar.zone;
    let deadline = material.deadline(case);
    let notices: Vec<&Delivery> =
        material.notices(case, Standing::Affected).filter(|d| d.sites.contains(name)).collect();
    let first = notices.iter().find(|d| accepted(d));
    // What was accepted last says when the customer was told; else the last notice says why it was not.
    let told = notices.iter().rev().find(|d| accepted(d)).or(notices.last());
    let left = told.filter(|d| accepted(d) || matches!(d.state, DeliveryState::Sent | DeliveryState::Unknown));
    let coming = next.planned.get(&case.campaign);
    let because = coming.map(|(_, p)| &p.due.because).or_else(|| next.nothing.get(&case.campaign));
    vec![
        json!(case.customer.as_str()),
        json!(material.name(&case.customer)),
        json!(case.reference.0),
        json!(name.as_str()),
        json!(case.campaign.0),
        json!(output::time(site.since, zone)),
        json!(deadline.map(|day| day.to_string())),
        json!(deadline.map(|day| (day - material.today).num_days())),
        json!(notices.len()),
        output::time_or_null(first.map(|d| d.state_at), zone),
        output::time_or_null(left.map(|d| d.state_at), zone),
        json!(told.map(|d| d.facts.key.kind.as_str())),
        json!(told.map_or("not_told", |d| outcome(d))),
        json!(coming.map(|(day, _)| day.to_string())),
        json!(coming.map(|(_, p)| p.due.kind.as_str())),
        json!(coming.and_then(|(_, p)| p.due.milestone).map(|m| m.to_string())),
        json!(because),
    ]
}
