//! Whom nobody has successfully told: the one list behind `kigen report calls`, the digest's telephone list, the dashboard's
//! page of calls and the alert near the deadline.
//!
//! Invariant: a customer is told once a server took a notice of this round about what it has to do, and has not sent it back
//! since; and it must be called, told or not, when every address of it is dead.

use std::collections::BTreeSet;

use chrono::NaiveDate;

use super::Context;
use super::bounces::Dead;
use crate::domain::campaign::{Campaign, CampaignId, Standing};
use crate::domain::case::Reference;
use crate::domain::customer::Language;
use crate::domain::site::CustomerId;
use crate::store::Untold;

/// Why a customer is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its row in the customers file has an error.
    BadRow,
    /// `notify = no`.
    NotifyNo,
    /// Every address of it is dead.
    Dead,
    /// The last notice was refused for good.
    Failed,
    /// Nobody knows whether the last notice arrived.
    Unknown,
    /// The last notice was taken and sent back.
    CameBack,
    /// The last notice waits for a person.
    Held,
    /// The last notice is on its way.
    Leaving,
    /// None was made yet, or the last one was dropped.
    NoNotice,
}

impl Why {
    /// The word in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRow => "bad_row",
            Self::NotifyNo => "notify_no",
            Self::Dead => "dead",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::CameBack => "came_back",
            Self::Held => "held",
            Self::Leaving => "leaving",
            Self::NoNotice => "no_notice",
        }
    }

    /// The same for people.
    #[must_use]
    pub fn text(self, language: Language) -> &'static str {
        let (ja, en) = match self {
            Self::BadRow => ("顧客ファイルの行に誤り", "its row has an error"),
            Self::NotifyNo => ("通知しない設定 (notify = no)", "notify = no"),
            Self::Dead => ("連絡先のアドレスがすべて無効", "every address is dead"),
            Self::Failed => ("通知が拒否された", "the notice failed"),
            Self::Unknown => ("通知が届いたか不明", "the notice may not have arrived"),
            Self::CameBack => ("通知が差し戻された", "the notice came back"),
            Self::Held => ("通知が保留中", "the notice is held"),
            Self::Leaving => ("通知を送信中", "the notice is on its way"),
            Self::NoNotice => ("まだ通知がありません", "no notice yet"),
        };
        match language {
            Language::Ja => ja,
            Language::En => en,
        }
    }

    /// Whether a mail may still do it: it waits, or comes with a next pass. The others must be called.
    #[must_use]
    pub fn is_coming(self) -> bool {
        match self {
            Self::Held | Self::Leaving | Self::NoNotice => true,
            Self::BadRow | Self::NotifyNo | Self::Dead | Self::Failed | Self::Unknown | Self::CameBack => false,
        }
    }
}

/// One customer in one campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToCall {
    /// Whom.
    pub customer: CustomerId,
    /// Its name.
    pub name: String,
    /// Its telephone number.
    pub phone: Option<String>,
    /// The person to ask for.
    pub contact_name: Option<String>,
    /// In which campaign.
    pub campaign: CampaignId,
    /// The case's number.
    pub reference: Reference,
    /// What it has to do.
    pub standing: Standing,
    /// Its own deadline; `None`: the campaign is not in the configuration any more.
    pub deadline: Option<NaiveDate>,
    /// Why it is not told.
    pub why: Why,
}

/// Everybody, the nearest deadline first.
///
/// # Errors
/// When the store fails.
pub async fn to_call(ctx: &Context) -> anyhow::Result<Vec<ToCall>> {
    let dead = Dead::load(ctx).await?;
    let campaigns = ctx.snapshot.campaigns();
    let rows = rows(ctx, &dead, &campaigns).await?;
    let to_call = |row: Untold| {
        let customer = ctx.snapshot.customers.get(&row.customer);
        let customer = customer.as_ref();
        let campaign = campaigns.iter().find(|c| c.id == row.campaign);
        ToCall {
            why: why(ctx, &dead, &row),
            phone: customer.and_then(|c| c.phone.clone()),
            contact_name: customer.and_then(|c| c.contact_name.clone()),
            deadline: campaign.map(|c| customer.map_or(c.deadline, |customer| c.deadline_of(customer))),
            customer: row.customer,
            name: row.name,
            campaign: row.campaign,
            reference: row.reference,
            standing: row.standing,
        }
    };
    let mut all: Vec<ToCall> = rows.into_iter().map(to_call).collect();
    all.sort_by(|a, b| {
        let key = |c: &ToCall| (c.deadline.is_none(), c.deadline, c.customer.clone(), c.campaign.clone());
        key(a).cmp(&key(b))
    });
    Ok(all)
}

/// How many they are: the same list, without its order and words.
///
/// # Errors
/// When the store fails.
pub async fn count(ctx: &Context) -> anyhow::Result<u64> {
    let rows = rows(ctx, &Dead::load(ctx).await?, &ctx.snapshot.campaigns()).await?;
    Ok(rows.len() as u64)
}

async fn rows(ctx: &Context, dead: &Dead, campaigns: &[Campaign]) -> anyhow::Result<Vec<Untold>> {
    let mut rows = ctx.store.untold_customers().await?;
    rows.extend(unreachable(ctx, dead, &rows).await?);
    // Who is done by its own word need not be told.
    rows.retain(|row| {
        let campaign = campaigns.iter().find(|c| c.id == row.campaign);
        campaign.zip(ctx.snapshot.customers.get(&row.customer)).is_none_or(|(c, customer)| !c.is_done_by(&customer))
    });
    Ok(rows)
}

fn why(ctx: &Context, dead: &Dead, row: &Untold) -> Why {
    let Some(customer) = ctx.snapshot.customers.get(&row.customer) else { return Why::BadRow };
    if !customer.notify {
        return Why::NotifyNo;
    }
    if dead.reachable(&customer).is_none() {
        return Why::Dead;
    }
    match row.delivery.as_deref() {
        Some("failed") => Why::Failed,
        Some("unknown") => Why::Unknown,
        // A server took it, and yet the store says that it reached nobody.
        Some("sent") => Why::CameBack,
        Some("held") => Why::Held,
        Some("queued" | "sending") => Why::Leaving,
        _ => Why::NoNotice,
    }
}

/// Customers who were told in this round, and whom no mail reaches any more: they hear of nothing that comes.
async fn unreachable(ctx: &Context, dead: &Dead, known: &[Untold]) -> anyhow::Result<Vec<Untold>> {
    let lost: BTreeSet<&CustomerId> = dead
        .customers()
        .filter(|id| ctx.snapshot.customers.get(id).is_some_and(|c| c.notify && dead.reachable(&c).is_none()))
        .collect();
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<CustomerId> = lost.into_iter().cloned().collect();
    let mut rows = Vec::new();
    for state in ctx.store.customer_states(&ids).await? {
        for case in state.cases.iter().filter(|c| c.state == crate::domain::case::CaseState::Open) {
            let standing = [Standing::Affected, Standing::ConsentMissing].into_iter().find(|s| case.any(*s));
            let listed = known.iter().any(|u| u.customer == state.id && u.campaign == case.campaign);
            let Some(standing) = standing.filter(|_| !listed) else { continue };
            rows.push(Untold {
                customer: state.id.clone(),
                name: ctx.snapshot.customers.get(&state.id).map_or_else(String::new, |c| c.name.clone()),
                campaign: case.campaign.clone(),
                reference: case.reference.clone(),
                standing,
                delivery: None,
                detail: None,
            });
        }
    }
    Ok(rows)
}
