//! The proof of what was sent: one line a mail and recipient, with what its server said and the hash of the bytes.
//!
//! For the operator's own use, so addresses stand in full. `kigen outbox show ID` prints the bytes that the hash is of.

use serde_json::{Value, json};

use crate::cli::output::{self, Listing, Shown};
use crate::daemon::Context;
use crate::domain::delivery::{Recipient, RecipientState};
use crate::domain::site::CustomerId;
use crate::store::Proof;

const COLUMNS: &[&str] = &[
    "delivery",
    "customer",
    "campaign",
    "round",
    "kind",
    "milestone",
    "sites",
    "deadline",
    "recipient",
    "outcome",
    "reply",
    "first_attempt_at",
    "answered_at",
    "attempts",
    "message_id",
    "date",
    "subject",
    "bytes",
    "sha256",
];

const SHOWN: &[Shown] = &[
    Shown::one("delivery", &["delivery"]),
    Shown::one("customer", &["customer"]),
    Shown::if_varied("campaign", &["campaign"]),
    Shown::joined("notice", &["kind", "milestone"], " "),
    Shown::one("recipient", &["recipient"]),
    Shown::one("outcome", &["outcome"]),
    Shown::one("answered", &["answered_at"]),
    Shown::one("sha256", &["sha256"]),
];

pub(super) async fn listing(ctx: &Context, only: Option<&CustomerId>) -> anyhow::Result<Listing> {
    let zone = ctx.snapshot.config.calendar.zone;
    let mut listing = Listing::new(COLUMNS).shown(SHOWN);
    for proof in ctx.store.proofs(only).await? {
        for recipient in &proof.delivery.recipients {
            listing.row(row(&proof, recipient, zone));
        }
    }
    Ok(listing)
}

fn row(proof: &Proof, recipient: &Recipient, zone: chrono_tz::Tz) -> Vec<Value> {
    let d = &proof.delivery;
    // Of whom no server spoke, the state of the whole mail says what is known.
    let outcome = match recipient.state {
        RecipientState::Pending => d.state.as_str(),
        state => state.as_str(),
    };
    vec![
        json!(d.id.0),
        json!(d.facts.key.customer.as_str()),
        json!(d.facts.key.campaign.0),
        json!(d.facts.key.round),
        json!(d.facts.key.kind.as_str()),
        json!(d.facts.milestone),
        json!(d.sites.iter().map(|s| s.as_str()).collect::<Vec<_>>()),
        json!(d.facts.deadline.to_string()),
        json!(recipient.address.as_str()),
        json!(outcome),
        json!(recipient.reply),
        json!(output::time(proof.first_attempt_at, zone)),
        output::time_or_null(proof.answered_at, zone),
        json!(d.attempts),
        json!(d.message_id),
        json!(proof.date),
        json!(d.subject),
        json!(proof.length),
        json!(proof.sha256),
    ]
}
