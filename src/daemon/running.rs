//! What kigen last ran with: mode and campaigns, remembered in the store, so that `kigen check` can say what an edit changes.
//!
//! Nothing is decided by it. A word that an older or newer kigen wrote and this one cannot read counts as none.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::{Context, Snapshot};
use crate::domain::Timestamp;
use crate::domain::campaign::{Affects, Campaign, CampaignId, Milestone, Product};
use crate::store::{Result, Store};

const MEMO: &str = "running";

/// What kigen ran with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// `mode`, as written in the configuration.
    pub mode: String,
    /// The campaigns with their dates.
    pub campaigns: Vec<Campaign>,
    /// Since when.
    pub since: Timestamp,
    /// What ran with it first: `scan`, `notice pass`, `daemon`.
    pub by: String,
}

#[derive(Serialize, Deserialize)]
struct Memo {
    since: DateTime<Utc>,
    by: String,
    mode: String,
    campaigns: Vec<CampaignMemo>,
}

#[derive(Serialize, Deserialize)]
struct CampaignMemo {
    id: String,
    affects: String,
    #[serde(default)]
    begins: Option<NaiveDate>,
    deadline: NaiveDate,
    postponed_to: Option<NaiveDate>,
    last_day: Option<NaiveDate>,
    reminders: Vec<u32>,
    overdue_every: Option<u32>,
    consent_every: u32,
    source: Option<String>,
    #[serde(default)]
    product: Option<ProductMemo>,
}

#[derive(Serialize, Deserialize)]
struct ProductMemo {
    app_id: String,
    plan_ja: Option<String>,
    plan_en: Option<String>,
}

/// Takes note of what runs now, unless it is what ran before. That it cannot is logged, never in the way.
pub async fn remember(ctx: &Context, by: &str) {
    let now = Running::of(&ctx.snapshot, by, ctx.now());
    let result = async {
        let before = recall(ctx.store.as_ref()).await?;
        match before.is_some_and(|before| before.mode == now.mode && before.campaigns == now.campaigns) {
            true => Ok(()),
            false => ctx.store.set_memo(MEMO, &now.to_memo()).await,
        }
    };
    if let Err(error) = result.await {
        tracing::warn!("cannot remember what runs, so `kigen check` will compare with something older: {error}");
    }
}

/// What kigen last ran with; `None` if it never did.
///
/// # Errors
/// When the store fails.
pub async fn recall(store: &dyn Store) -> Result<Option<Running>> {
    Ok(store.memo(MEMO).await?.as_deref().and_then(Running::of_memo))
}

impl Running {
    fn of(snapshot: &Snapshot, by: &str, since: Timestamp) -> Self {
        let mode = snapshot.config.mode.as_str().to_owned();
        Self { mode, campaigns: snapshot.campaigns(), since, by: by.to_owned() }
    }

    fn to_memo(&self) -> String {
        let campaign = |c: &Campaign| CampaignMemo {
            id: c.id.0.clone(),
            affects: c.affects.as_str().to_owned(),
            begins: c.begins,
            deadline: c.deadline,
            postponed_to: c.postponed_to,
            last_day: c.last_day,
            reminders: c.reminders.iter().map(|m| m.days).collect(),
            overdue_every: c.overdue_every,
            consent_every: c.consent_every,
            source: c.source.clone(),
            product: c.product.as_ref().map(|p| ProductMemo {
                app_id: p.app_id.clone(),
                plan_ja: p.plan_ja.clone(),
                plan_en: p.plan_en.clone(),
            }),
        };
        let campaigns = self.campaigns.iter().map(campaign).collect();
        let memo = Memo { since: self.since, by: self.by.clone(), mode: self.mode.clone(), campaigns };
        serde_json::to_string(&memo).expect("texts, numbers and dates always make JSON")
    }

    fn of_memo(text: &str) -> Option<Self> {
        let memo: Memo = serde_json::from_str(text).ok()?;
        let campaign = |c: CampaignMemo| {
            Some(Campaign {
                id: CampaignId(c.id),
                affects: [Affects::BasicAuth, Affects::ExchangeOnline].into_iter().find(|a| a.as_str() == c.affects)?,
                begins: c.begins,
                deadline: c.deadline,
                postponed_to: c.postponed_to,
                last_day: c.last_day,
                reminders: c.reminders.into_iter().map(|days| Milestone { days }).collect(),
                overdue_every: c.overdue_every,
                consent_every: c.consent_every,
                source: c.source,
                product: c.product.map(|p| Product { app_id: p.app_id, plan_ja: p.plan_ja, plan_en: p.plan_en }),
            })
        };
        let campaigns = memo.campaigns.into_iter().map(campaign).collect::<Option<_>>()?;
        Some(Self { mode: memo.mode, campaigns, since: memo.since, by: memo.by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back_whole_and_nonsense_counts_as_nothing() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let campaign = Campaign {
            id: CampaignId("one".to_owned()),
            affects: Affects::ExchangeOnline,
            begins: Some(day("2022-09-01")),
            deadline: day("2022-10-01"),
            postponed_to: Some(day("2022-12-31")),
            last_day: None,
            reminders: vec![Milestone { days: 30 }, Milestone { days: 7 }],
            overdue_every: Some(7),
            consent_every: 3,
            source: Some("https://example.jp/".to_owned()),
            product: Some(Product {
                app_id: "id".to_owned(), plan_ja: Some("移行します。".to_owned()), plan_en: None
            }),
        };
        let since = Timestamp::from_timestamp(1_661_994_000, 0).unwrap();
        let running = Running { mode: "live".to_owned(), campaigns: vec![campaign], since, by: "scan".to_owned() };
        assert_eq!(Running::of_memo(&running.to_memo()), Some(running));
        assert_eq!(Running::of_memo("{\"mode\":\"live\"}"), None);
        assert_eq!(Running::of_memo(""), None);
    }
}
