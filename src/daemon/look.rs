//! One look at one customer: through the connector, judged, and turned into the change that the store writes.

use sha2::{Digest, Sha256};

use super::{Context, corroborate};
use crate::config::ConnectorConfig;
use crate::connector::Account;
use crate::connector::breaker::Sign;
use crate::domain::Timestamp;
use crate::domain::campaign::{Campaign, CampaignId};
use crate::domain::case::{self, Case, CaseState, LookKind, Reference};
use crate::domain::guard;
use crate::domain::observation::{self, CustomerLook, Failure, Observation, Reason, observations};
use crate::domain::site::CustomerId;
use crate::fleet::Member;
use crate::microsoft::Told;
use crate::store::{Committed, CustomerState, LookChange, Refused, Result};

/// The reference number of a customer's case in a campaign: the same before and after the case is opened.
#[must_use]
pub fn reference(customer: &CustomerId, campaign: &CampaignId) -> Reference {
    let digest = Sha256::digest(format!("{campaign}\n{customer}"));
    Reference::from_digest(&[digest[0], digest[1], digest[2], digest[3], digest[4]])
}

/// How a look at a customer went, for the guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logon {
    /// The tool let us in, or the trouble had nothing to do with the password.
    Good,
    /// The tool refused account or password just now.
    Refused,
    /// It was not tried: it had been refused, the password could not be read, or no answer came.
    NotTried,
}

/// What a look saw, and what it says of the logon.
pub struct Looked {
    /// What the connector reports.
    pub look: CustomerLook,
    /// For the refusal streak.
    pub logon: Logon,
    /// What to remember of a refused logon.
    pub refused: Option<Refused>,
    /// Whether anybody was asked at all: `false` says nothing of the customer's host, and is no turn in a scan.
    pub asked: bool,
    /// What the Microsoft side says.
    pub told: Told,
}

impl Looked {
    /// What was seen, judged; `before` is what was seen last.
    #[must_use]
    pub fn observations(&self, customer: &CustomerId, before: &[Observation]) -> Vec<Observation> {
        let mut seen = observations(customer, &self.look, self.told.consent);
        observation::corroborate(&mut seen, self.told.consent, self.told.detail.as_deref(), before);
        seen
    }

    /// What it says of the customer's host.
    #[must_use]
    pub fn sign(&self) -> Sign {
        if self.asked { Sign::of(&self.look) } else { Sign::Nothing }
    }
}

/// Looks at one customer, unless its logon was refused less than 24 hours ago and its entry has not changed.
pub async fn look(ctx: &Context, member: &Member, state: &CustomerState) -> Looked {
    let now = ctx.now();
    if let Some(looked) = refused_lately(member, state, now) {
        return looked;
    }
    let password = match member.logon.password() {
        Ok(password) => password,
        Err(error) => {
            let detail = format!("cannot read the password of customer {}: {error}", member.customer.id);
            return unlooked(Failure::new(Reason::InventoryError, detail), state, now);
        }
    };
    if matches!(ctx.snapshot.config.connector, ConnectorConfig::Exlook(_))
        && (member.logon.account.is_empty() || password.is_none())
    {
        // An empty logon would be refused, and a row of refusals stops the scan of everybody.
        let detail = "the customers file gives no account and password to log on with".to_owned();
        return unlooked(Failure::new(Reason::InventoryError, detail), state, now);
    }
    let account = Account {
        customer: member.customer.id.clone(),
        sites: member.customer.sites.clone(),
        account: member.logon.account.clone(),
        password: password.unwrap_or_else(|| crate::secret::Secret::new(String::new())),
        logon_url: member.logon.url.clone(),
    };
    let look = ctx.connector.look(&account).await;
    let reason = look.sites.as_ref().err().map(|failure| failure.reason);
    let (logon, refused) = match reason {
        Some(Reason::LogonRefused | Reason::AccountLocked) => {
            (Logon::Refused, Some(Refused { at: look.at, fingerprint: member.fingerprint.clone() }))
        }
        None | Some(Reason::PasswordChangeRequired) => (Logon::Good, None),
        Some(_) => (Logon::NotTried, None),
    };
    let told = corroborate::ask(ctx, &member.customer, &look).await;
    Looked { look, logon, refused, asked: true, told }
}

/// Nobody was asked.
fn unlooked(why: Failure, state: &CustomerState, now: Timestamp) -> Looked {
    Looked {
        look: CustomerLook { sites: Err(why), at: now },
        logon: Logon::NotTried,
        refused: state.refused.clone(),
        asked: false,
        told: Told::default(),
    }
}

fn refused_lately(member: &Member, state: &CustomerState, now: Timestamp) -> Option<Looked> {
    let refused = state.refused.as_ref()?;
    if guard::logon_allowed(Some(refused.at), refused.fingerprint != member.fingerprint, now) {
        return None;
    }
    let locked = state.sites.iter().any(|seen| seen.verdict.reason() == Some(Reason::AccountLocked));
    let detail = format!(
        "the logon was refused at {}; not tried again before {} unless the customer's entry changes",
        refused.at.format("%Y-%m-%d %H:%M UTC"),
        (refused.at + guard::REFUSED_FOR).format("%Y-%m-%d %H:%M UTC"),
    );
    let reason = if locked { Reason::AccountLocked } else { Reason::LogonRefused };
    let sites = Err(Failure::new(reason, detail));
    Some(Looked {
        look: CustomerLook { sites, at: now },
        logon: Logon::NotTried,
        refused: Some(refused.clone()),
        asked: false,
        told: Told::default(),
    })
}

/// What the look changes. Pure: decided again from a fresh state when the store says it was stale.
#[must_use]
pub fn change(
    state: &CustomerState,
    campaigns: &[Campaign],
    seen: &[Observation],
    refused: Option<Refused>,
    kind: LookKind,
    at: Timestamp,
) -> LookChange {
    let mut cases = Vec::new();
    let mut events = Vec::new();
    for campaign in campaigns {
        let known = state.cases.iter().find(|c| c.campaign == campaign.id).cloned();
        let (moved, happened) =
            case::observe(known.clone(), || opened(&state.id, &campaign.id, at), campaign.affects, seen, kind);
        if let Some(moved) = moved
            && known.as_ref() != Some(&moved)
        {
            cases.push(moved);
        }
        events.extend(happened.into_iter().map(|event| (campaign.id.clone(), event)));
    }
    LookChange {
        customer: state.id.clone(),
        version: state.version,
        kind,
        seen: seen.to_vec(),
        refused,
        cases,
        events,
        at,
    }
}

fn opened(customer: &CustomerId, campaign: &CampaignId, at: Timestamp) -> Case {
    Case {
        customer: customer.clone(),
        campaign: campaign.clone(),
        reference: reference(customer, campaign),
        round: 1,
        state: CaseState::Open,
        opened_at: at,
        round_at: at,
        sites: std::collections::BTreeMap::new(),
        told: Vec::new(),
    }
}

/// How often a stale change is decided again before the customer is left for the next run.
const STALE_TRIES: usize = 5;

/// Looks at one customer right before a notice, writes what was seen, and returns the state after it and what the look says
/// of the host.
///
/// # Errors
/// When the store fails. `None`: the customer is not in the store.
pub async fn check_for_sign(ctx: &Context, member: &Member) -> Result<Option<(CustomerState, Sign)>> {
    let id = std::slice::from_ref(&member.customer.id);
    let Some(mut state) = ctx.store.customer_states(id).await?.pop() else { return Ok(None) };
    let looked = look(ctx, member, &state).await;
    let seen = looked.observations(&member.customer.id, &state.sites);
    let sign = looked.sign();
    let campaigns = ctx.snapshot.campaigns();
    for _ in 0..STALE_TRIES {
        let change = change(&state, &campaigns, &seen, looked.refused.clone(), LookKind::Check, looked.look.at);
        let committed = ctx.store.commit_looks(std::slice::from_ref(&change)).await?;
        match ctx.store.customer_states(id).await?.pop() {
            Some(fresh) => state = fresh,
            None => return Ok(None),
        }
        if committed != [Committed::Stale] {
            super::alert::of_looks(ctx, std::iter::once(&change)).await;
            break;
        }
    }
    Ok(Some((state, sign)))
}
