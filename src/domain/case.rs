//! One customer in one campaign, and how a look at its sites moves it.
//!
//! A case is opened by the first site that is affected or lacks consent, in round 1. A scan that finds such a site in a
//! resolved case reopens it in the next round. A case is resolved by a notice pass (see [`super::plan`]), never here.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;

use super::Timestamp;
use super::campaign::{Affects, CampaignId, Standing};
use super::observation::{Observation, RawSettings, Reason, Verdict};
use super::plan::NoticeKind;
use super::site::{AuthMethod, CustomerId, ServerType, SiteName};

/// The number that stands in every mail of a case, such as `KG-7Q2M-XF4B`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(pub String);

impl Reference {
    /// Made from 40 bits of a digest over campaign and customer, so that it is the same before and after the case is opened.
    #[must_use]
    pub fn from_digest(digest: &[u8; 5]) -> Self {
        /// Crockford's base 32: no I, L, O, U to mishear on the telephone.
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let bits = digest.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let digit = |n: u32| char::from(ALPHABET[usize::try_from(bits >> (5 * n) & 31).unwrap_or(0)]);
        let text: String = (0..8).rev().map(digit).collect();
        Self(format!("KG-{}-{}", &text[..4], &text[4..]))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was read of a site and when: what a notice rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When it was read.
    pub observed_at: Timestamp,
    /// The recognised setting.
    pub server_type: Option<ServerType>,
    /// The recognised setting.
    pub auth_method: Option<AuthMethod>,
    /// The texts on the page.
    pub raw: RawSettings,
}

impl Evidence {
    /// The evidence an observation gives.
    #[must_use]
    pub fn of(seen: &Observation) -> Self {
        Self {
            observed_at: seen.observed_at,
            server_type: seen.server_type,
            auth_method: seen.auth_method,
            raw: seen.raw.clone(),
        }
    }
}

/// One site of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseSite {
    /// By its latest conclusive observation.
    pub standing: Standing,
    /// Since when it stands there.
    pub since: Timestamp,
    /// Scans in a row in which it was clear or not listed.
    pub clear_scans: u32,
    /// Scans in a row in which the tool listed the customer's sites without it.
    pub absent_scans: u32,
    /// The latest conclusive look.
    pub now: Evidence,
    /// The last look at which it was affected or lacked consent.
    pub before: Evidence,
}

/// Open or resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseState {
    /// Something is to be done, or it has not been confirmed often enough that nothing is.
    Open,
    /// Nothing is to be done any more.
    Resolved {
        /// When the notice pass found so.
        at: Timestamp,
    },
}

/// One notice of a case as the planner needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its kind.
    pub kind: NoticeKind,
    /// The round it belongs to.
    pub round: u32,
    /// What makes it unique within (round, kind): see [`super::plan::Due::occasion`].
    pub occasion: String,
    /// The civil day it was queued, or approved if it had been held.
    pub day: NaiveDate,
    /// The customer's deadline that it named.
    pub deadline: NaiveDate,
    /// `false` while it is held: a held notice counts once it is approved.
    pub counts: bool,
}

/// One customer in one campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Whose.
    pub customer: CustomerId,
    /// In which campaign.
    pub campaign: CampaignId,
    /// The number in every mail.
    pub reference: Reference,
    /// 1 for the first time, one more for each relapse.
    pub round: u32,
    /// Open or resolved.
    pub state: CaseState,
    /// When round 1 began.
    pub opened_at: Timestamp,
    /// When this round began.
    pub round_at: Timestamp,
    /// The sites that were affected or lacked consent in this round.
    pub sites: BTreeMap<SiteName, CaseSite>,
    /// Every notice of every round that was queued, held or cancelled; dropped ones are not among them.
    pub told: Vec<Told>,
}

impl Case {
    /// The sites that stand so.
    pub fn standing(&self, standing: Standing) -> impl Iterator<Item = (&SiteName, &CaseSite)> {
        self.sites.iter().filter(move |(_, site)| site.standing == standing)
    }

    /// Whether any site stands so.
    #[must_use]
    pub fn any(&self, standing: Standing) -> bool {
        self.standing(standing).next().is_some()
    }

    /// Whether no site has been affected or without consent for `confirm` scans in a row.
    #[must_use]
    pub fn confirmed_clear(&self, confirm: u32) -> bool {
        self.sites.values().all(|site| site.standing == Standing::Clear && site.clear_scans >= confirm)
    }

    /// The notices of the current round that count.
    pub fn told_this_round(&self) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(|told| told.counts && told.round == self.round)
    }
}

/// Whether a look counts for `confirm_resolved`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookKind {
    /// A scan over the fleet or a part of it.
    Scan,
    /// The look right before a notice: moves standings, counts nothing.
    Check,
}

/// Something that happened to a case, for its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseEvent {
    /// Round 1 began.
    Opened,
    /// A resolved case began a new round.
    Reopened {
        /// The new round.
        round: u32,
    },
    /// A site of the case changed its standing.
    SiteMoved {
        /// Which.
        site: SiteName,
        /// From where; `None`: it was no part of the case.
        from: Option<Standing>,
        /// To where.
        to: Standing,
    },
    /// The tool listed the customer's sites without this one: said once, at the first scan in a row.
    SiteAbsent {
        /// Which.
        site: SiteName,
        /// Scans in a row.
        scans: u32,
    },
    /// The notice pass found nothing more to do.
    Resolved {
        /// Nobody had been told, so nobody is told now.
        silently: bool,
    },
}

impl CaseEvent {
    /// The word used in the store.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reopened { .. } => "reopened",
            Self::SiteMoved { .. } => "site_moved",
            Self::SiteAbsent { .. } => "site_absent",
            Self::Resolved { .. } => "resolved",
        }
    }
}

impl fmt::Display for CaseEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened => write!(f, "case opened"),
            Self::Reopened { round } => write!(f, "case reopened, round {round}"),
            Self::SiteMoved { site, from: Some(from), to } => {
                write!(f, "site {site}: {} -> {}", from.as_str(), to.as_str())
            }
            Self::SiteMoved { site, from: None, to } => write!(f, "site {site}: {}", to.as_str()),
            Self::SiteAbsent { site, scans } => write!(f, "site {site}: no longer listed, {scans} scan(s) in a row"),
            Self::Resolved { silently: true } => write!(f, "case resolved silently: nobody had been told"),
            Self::Resolved { silently: false } => write!(f, "case resolved"),
        }
    }
}

/// Moves a case by one look at its customer. `None` in and `None` out: there is no case.
///
/// `seen` is what [`super::observation::observations`] made of the look: with an observation without a site, or with
/// none at all, the listing itself failed, and nothing moves.
#[must_use]
pub fn observe(
    case: Option<Case>,
    open: impl FnOnce() -> Case,
    affects: Affects,
    seen: &[Observation],
    kind: LookKind,
) -> (Option<Case>, Vec<CaseEvent>) {
    let mut events = Vec::new();
    if seen.is_empty() || seen.iter().any(|o| o.site.is_none()) {
        return (case, events);
    }
    let standings: Vec<(&SiteName, &Observation, Standing)> =
        seen.iter().filter_map(|o| Some((o.site.as_ref()?, o, affects.standing(o)?))).collect();
    let to_do = standings.iter().any(|(_, _, s)| *s != Standing::Clear);
    let mut case = match case {
        None if !to_do => return (None, events),
        None => {
            events.push(CaseEvent::Opened);
            open()
        }
        Some(mut case) => {
            if to_do && let CaseState::Resolved { .. } = case.state {
                begin_next_round(&mut case, seen);
                events.push(CaseEvent::Reopened { round: case.round });
            }
            case
        }
    };
    for (site, observation, standing) in standings {
        move_site(&mut case, site, observation, standing, kind, &mut events);
    }
    if kind == LookKind::Scan {
        count_absent(&mut case, seen, &mut events);
    }
    (Some(case), events)
}

fn begin_next_round(case: &mut Case, seen: &[Observation]) {
    case.round += 1;
    case.state = CaseState::Open;
    case.round_at = seen.iter().map(|o| o.observed_at).max().unwrap_or(case.round_at);
    case.sites.clear();
}

fn move_site(
    case: &mut Case,
    name: &SiteName,
    seen: &Observation,
    standing: Standing,
    kind: LookKind,
    events: &mut Vec<CaseEvent>,
) {
    let known = case.sites.get(name);
    let from = known.map(|site| site.standing);
    if known.is_none() && standing == Standing::Clear {
        return; // Never had anything to do in this round: no part of the case.
    }
    if from != Some(standing) {
        events.push(CaseEvent::SiteMoved { site: name.clone(), from, to: standing });
    }
    let now = Evidence::of(seen);
    let clear_scans = match (standing, kind) {
        (Standing::Clear, LookKind::Scan) => known.map_or(0, |site| site.clear_scans).saturating_add(1),
        (Standing::Clear, LookKind::Check) => known.map_or(0, |site| site.clear_scans),
        _ => 0,
    };
    let site = CaseSite {
        standing,
        since: known.filter(|site| site.standing == standing).map_or(seen.observed_at, |site| site.since),
        clear_scans,
        absent_scans: 0,
        before: match (standing, known) {
            (Standing::Clear, Some(site)) => site.before.clone(),
            _ => now.clone(),
        },
        now,
    };
    case.sites.insert(name.clone(), site);
}

/// A site the tool lists no more counts as affected no more, and as clear, from the first scan that lists the others.
fn count_absent(case: &mut Case, seen: &[Observation], events: &mut Vec<CaseEvent>) {
    let listed = |name: &SiteName| {
        seen.iter().any(|o| o.site.as_ref() == Some(name) && o.verdict != Verdict::Unreadable(Reason::SiteMissing))
    };
    let at = seen.iter().map(|o| o.observed_at).max();
    for (name, site) in &mut case.sites {
        if listed(name) {
            site.absent_scans = 0;
            continue;
        }
        site.absent_scans = site.absent_scans.saturating_add(1);
        site.clear_scans = site.clear_scans.saturating_add(1);
        if site.standing != Standing::Clear {
            site.standing = Standing::Clear;
            site.since = at.unwrap_or(site.since);
        }
        if site.absent_scans == 1 {
            events.push(CaseEvent::SiteAbsent { site: name.clone(), scans: site.absent_scans });
        }
    }
}

#[cfg(test)]
mod tests;
