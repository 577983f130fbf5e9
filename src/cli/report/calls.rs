//! The telephone list: customers with something to do whom no notice of this round has reached, the nearest deadline first.

use serde_json::{Value, json};

use super::Material;
use crate::cli::output::{Listing, Shown};
use crate::daemon::untold::{ToCall, Why};
use crate::domain::case::Case;
use crate::domain::delivery::DeliveryState;
use crate::store::Delivery;

const COLUMNS: &[&str] = &[
    "customer",
    "name",
    "contact",
    "phone",
    "campaign",
    "reference",
    "sites",
    "standing",
    "deadline",
    "days_left",
    "why",
];

const SHOWN: &[Shown] = &[
    Shown::one("customer", &["customer"]),
    Shown::one("name", &["name"]),
    Shown::one("contact", &["contact"]),
    Shown::one("phone", &["phone"]),
    Shown::if_varied("campaign", &["campaign"]),
    Shown::one("deadline", &["deadline"]),
    Shown::one("days left", &["days_left"]),
    Shown::one("why not told", &["why"]),
];

pub(super) fn listing(material: &Material<'_>, untold: &[ToCall]) -> anyhow::Result<Listing> {
    let mut listing = Listing::new(COLUMNS).shown(SHOWN);
    for call in untold {
        let cases = material.cases.get(&call.customer);
        if let Some(case) = cases.into_iter().flatten().find(|case| case.campaign == call.campaign) {
            listing.row(row(material, case, call));
        }
    }
    Ok(listing)
}

fn row(material: &Material<'_>, case: &Case, call: &ToCall) -> Vec<Value> {
    let (standing, deadline) = (call.standing, call.deadline);
    let customer = material.customer(&case.customer);
    vec![
        json!(case.customer.as_str()),
        json!(material.name(&case.customer)),
        json!(customer.as_ref().and_then(|c| c.contact_name.as_ref())),
        json!(customer.as_ref().and_then(|c| c.phone.as_ref())),
        json!(case.campaign.0),
        json!(case.reference.0),
        json!(case.standing(standing).map(|(name, _)| name.as_str()).collect::<Vec<_>>()),
        json!(standing.as_str()),
        json!(deadline.map(|day| day.to_string())),
        json!(deadline.map(|day| (day - material.today).num_days())),
        json!(why(material, case, call)),
    ]
}

/// Why nobody has been told: what became of the last notice, or why there was none.
fn why(material: &Material<'_>, case: &Case, call: &ToCall) -> String {
    match call.why {
        Why::BadRow => return "its row in the customers file has an error".to_owned(),
        Why::Dead => return "every address of the customer is dead (kigen contact list)".to_owned(),
        _ => {}
    }
    if let Some(last) = material.notices(case, call.standing).next_back() {
        return became(last, material.ctx.snapshot.config.calendar.zone);
    }
    let next = material.next(&case.customer);
    match (next.planned.get(&case.campaign), next.nothing.get(&case.campaign)) {
        (Some((day, planned)), _) => format!("not told yet; the {} notice is due on {day}", planned.due.kind),
        (None, Some(why)) => why.clone(),
        (None, None) => "not told yet".to_owned(),
    }
}

fn became(last: &Delivery, zone: chrono_tz::Tz) -> String {
    let kind = last.facts.key.kind;
    let day = last.state_at.with_timezone(&zone).date_naive();
    let reply = last.recipients.iter().find_map(|r| r.reply.as_deref());
    let detail = last.detail.as_deref().or(reply).map(|why| format!(": {why}")).unwrap_or_default();
    match &last.state {
        DeliveryState::Held(held) => format!("the {kind} notice is held ({}) since {day}", held.as_str()),
        DeliveryState::Queued { .. } if last.attempts > 0 => {
            format!("the {kind} notice was put off {} time(s), it is tried again{detail}", last.attempts)
        }
        DeliveryState::Queued { .. } | DeliveryState::Sending => {
            format!("the {kind} notice waits for its turn since {day}")
        }
        DeliveryState::Unknown => format!("whether the {kind} notice of {day} arrived was never heard{detail}"),
        DeliveryState::Failed => format!("the {kind} notice of {day} was not taken{detail}"),
        DeliveryState::Sent => format!("the {kind} notice of {day} was taken and came back{detail}"),
        DeliveryState::Dropped => format!("the {kind} notice was dropped on {day}{detail}"),
    }
}
