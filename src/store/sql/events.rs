//! What was decided and what became of it, written in the transaction that did it.
//!
//! Invariant: events are only ever added; together with observations and attempts they are the history.

use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::campaign::CampaignId;
use crate::domain::case::CaseEvent;
use crate::domain::delivery::DeliveryId;
use crate::domain::plan::NoticeKind;
use crate::domain::site::CustomerId;

use super::super::{HistoryKind, Result};
use super::rows::{json, millis};
use super::{Tx, db, failed};

pub(super) const INSERT: &str = "INSERT INTO events (at, customer, campaign, delivery, what, word, text) \
     SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), value ->> 4, value ->> 5, value ->> 6 \
     FROM jsonb_each(?1) ORDER BY key";

/// One event: at, customer, campaign, delivery, what, word, text.
#[derive(Serialize)]
pub(in crate::store) struct Event(i64, Option<String>, Option<String>, Option<i64>, &'static str, String, String);

impl Event {
    /// Something happened to a case.
    pub(super) fn of_case(at: Timestamp, customer: &CustomerId, campaign: &CampaignId, event: &CaseEvent) -> Self {
        Self(
            millis(at),
            Some(customer.as_str().to_owned()),
            Some(campaign.0.clone()),
            None,
            HistoryKind::Decided.as_str(),
            event.word().to_owned(),
            event.to_string(),
        )
    }

    /// Something happened to a delivery.
    pub(super) fn of_delivery(
        at: Timestamp,
        notice: &Notice,
        what: HistoryKind,
        word: impl Into<String>,
        text: &str,
    ) -> Self {
        Self(
            millis(at),
            Some(notice.customer.clone()),
            Some(notice.campaign.clone()),
            Some(notice.id),
            what.as_str(),
            word.into(),
            format!("{}: {text}", notice.label()),
        )
    }

    /// Something was done about a customer.
    pub(super) fn of_customer(at: Timestamp, customer: &CustomerId, word: &'static str, text: String) -> Self {
        let customer = Some(customer.as_str().to_owned());
        Self(millis(at), customer, None, None, HistoryKind::Decided.as_str(), word.to_owned(), text)
    }

    /// Something happened to all mail.
    pub(in crate::store) fn of_all(at: Timestamp, word: &'static str, text: String) -> Self {
        Self(millis(at), None, None, None, HistoryKind::Decided.as_str(), word.to_owned(), text)
    }
}

/// What an event says of the delivery it happened to.
#[derive(sqlx::FromRow)]
pub(super) struct Notice {
    pub(super) id: i64,
    pub(super) customer: String,
    pub(super) campaign: String,
    pub(super) kind: String,
    pub(super) milestone: Option<String>,
}

impl Notice {
    pub(super) fn new(
        id: DeliveryId,
        customer: &CustomerId,
        campaign: &CampaignId,
        kind: NoticeKind,
        milestone: Option<&str>,
    ) -> Self {
        Self {
            id: id.0,
            customer: customer.as_str().to_owned(),
            campaign: campaign.0.clone(),
            kind: kind.as_str().to_owned(),
            milestone: milestone.map(str::to_owned),
        }
    }

    /// Such as `reminder 7d notice (delivery 12)`.
    pub(super) fn label(&self) -> String {
        let milestone = self.milestone.as_ref().map(|m| format!(" {m}")).unwrap_or_default();
        format!("{}{milestone} notice (delivery {})", self.kind, self.id)
    }
}

/// Writes them, in this order.
pub(in crate::store) async fn write(tx: &mut Tx, events: &[Event], what: &'static str) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    db::query(INSERT).bind(json(&events)).execute(&mut *tx).await.map_err(failed(what))?;
    Ok(())
}
