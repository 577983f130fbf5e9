//! A notice that came back from every address is told again, to `fallback_email`: which ones a pass adds to its plan.

use super::Dead;
use crate::daemon::Snapshot;
use crate::domain::campaign::Campaign;
use crate::domain::case::Case;
use crate::domain::delivery::DeliveryState;
use crate::domain::plan::{Due, Planned};
use crate::store::{Delivery, OutboxFilter, Store};

/// Behind the occasion of a notice that is told again, to `fallback_email`.
pub const FALLBACK: &str = "+fallback";

/// The notices to tell again: of customers with an open case whose every `email` is dead, the last notice of the round, if
/// it went to none of the living `fallback_email`. `planned` customers get one today anyway, and there.
///
/// # Errors
/// When the store fails.
pub async fn told_again(
    store: &dyn Store,
    snapshot: &Snapshot,
    campaigns: &[Campaign],
    dead: &Dead,
    cases: &[Case],
    planned: &[Planned],
) -> anyhow::Result<Vec<Planned>> {
    let mut again: Vec<Planned> = Vec::new();
    for case in cases {
        // First, since of a large fleet few are dead: what follows goes through all that is planned.
        if !dead.has(&case.customer) {
            continue;
        }
        let Some(customer) = snapshot.customers.get(&case.customer) else { continue };
        let served = planned.iter().chain(&again).any(|p| p.customer == case.customer);
        if served || !customer.notify {
            continue;
        }
        let fallback = dead.living(&customer.id, &customer.fallback_email);
        if fallback.is_empty() || !dead.living(&customer.id, &customer.email).is_empty() {
            continue;
        }
        let filter = OutboxFilter { customer: Some(case.customer.clone()), ..OutboxFilter::default() };
        let deliveries = store.deliveries(&filter).await?;
        let Some(campaign) = campaigns.iter().find(|c| c.id == case.campaign) else { continue };
        let Some(last) = deliveries.iter().find(|d| of_round(d, case)) else { continue };
        let reached = last.recipients.iter().any(|r| fallback.contains(&r.address));
        if reached || last.facts.key.occasion.ends_with(FALLBACK) || !is_over(last) {
            continue;
        }
        let milestone = last.facts.milestone.as_ref();
        let due = Due {
            kind: last.facts.key.kind,
            round: case.round,
            milestone: milestone.and_then(|text| campaign.reminders.iter().find(|m| m.to_string() == *text).copied()),
            occasion: format!("{}{FALLBACK}", last.facts.key.occasion),
            deadline: campaign.deadline_of(&customer),
            previous_deadline: None,
            because: format!(
                "the notice of {} came back, every address of the customer is dead: told to fallback_email",
                last.facts.day
            ),
        };
        let sites = case.standing(due.kind.speaks_of()).map(|(name, _)| name.clone()).collect();
        let (customer, campaign) = (case.customer.clone(), case.campaign.clone());
        again.push(Planned { customer, campaign, due, sites, held: None });
    }
    Ok(again)
}

fn of_round(delivery: &Delivery, case: &Case) -> bool {
    let key = &delivery.facts.key;
    key.campaign == case.campaign && key.round == case.round && delivery.state != DeliveryState::Dropped
}

fn is_over(delivery: &Delivery) -> bool {
    matches!(delivery.state, DeliveryState::Sent | DeliveryState::Unknown | DeliveryState::Failed)
}

/// Whether a due notice is one that is told again.
#[must_use]
pub fn is_told_again(due: &Due) -> bool {
    due.occasion.ends_with(FALLBACK)
}
