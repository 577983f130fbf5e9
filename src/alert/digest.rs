//! The morning's digest: what changed, how far it is, who is left, who must be called, what comes today, and how kigen is.

use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::Serialize;

use super::{RenderError, Texts, day, mask, moment, one_line, part};
use crate::domain::Timestamp;
use crate::domain::customer::Language;

/// Lines of one list; the rest is a number.
const LISTED: usize = 30;

/// Blocks of the text chart's longest bar.
const BAR: u64 = 24;

/// Customers: ids and names.
type Named = Vec<(String, String)>;

/// What the digest is made of.
#[derive(Debug, Clone)]
pub struct DigestFacts {
    /// Now.
    pub now: Timestamp,
    /// The civil day.
    pub today: NaiveDate,
    /// The operators' zone.
    pub zone: Tz,
    /// `mode`'s word.
    pub mode: &'static str,
    /// When the last digest was made.
    pub since: Option<Timestamp>,
    /// Campaign and deadline.
    pub campaigns: Vec<(String, NaiveDate)>,
    /// Affected sites after the last scan of each day, the oldest first.
    pub days: Vec<(NaiveDate, u64)>,
    /// Affected, switched, consent_missing, not_exchange_online, unreadable: words and numbers.
    pub sites: Vec<(&'static str, u64)>,
    /// What happened since the last digest: word, number, the first few customers.
    pub happened: Vec<(String, u64, Named)>,
    /// Who still has to switch, the most urgent first.
    pub to_switch: Vec<ToSwitch>,
    /// Whom no mail has reached, and none is about to.
    pub calls: Vec<Call>,
    /// How many others no mail has reached yet: it waits, or comes with a next pass.
    pub calls_coming: u64,
    /// Today's plan by kind.
    pub planned: Vec<(&'static str, u64)>,
    /// What could not be read, by reason.
    pub unreadable: Vec<Grouped>,
    /// The newest scan.
    pub last_scan: Option<LastScan>,
    /// Deliveries by state.
    pub outbox: Vec<(&'static str, u64)>,
    /// What holds all mail.
    pub holds: Vec<Hold>,
    /// Rows of the customers file with an error.
    pub bad_rows: u64,
    /// A warning about our own way out, in the digest's language.
    pub warning: Option<String>,
}

/// A customer that is still affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSwitch {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The campaign, where several run.
    pub campaign: Option<String>,
    /// Affected sites.
    pub sites: u64,
    /// Its own deadline.
    pub deadline: NaiveDate,
    /// The day it was last told in this round.
    pub told: Option<NaiveDate>,
}

/// A customer to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its telephone number.
    pub phone: Option<String>,
    /// Why mail does not do, in the digest's language.
    pub why: &'static str,
}

/// Sites that could not be read for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouped {
    /// The reason's word.
    pub reason: &'static str,
    /// How many sites.
    pub count: u64,
    /// The first few customers: id and name.
    pub customers: Vec<(String, String)>,
}

/// How the newest scan went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastScan {
    /// When it began.
    pub at: Timestamp,
    /// Its outcome's word; `None`: it runs.
    pub outcome: Option<&'static str>,
    /// Sites seen.
    pub sites: u64,
    /// Of these, unreadable.
    pub unreadable: u64,
    /// Why it stopped.
    pub detail: Option<String>,
}

/// Why nothing leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// In words.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

#[derive(Serialize)]
struct View {
    ja: bool,
    subject: String,
    now: String,
    today: String,
    mode: &'static str,
    since: Option<String>,
    campaigns: Vec<CampaignLine>,
    affected: u64,
    sites: Vec<(&'static str, u64)>,
    chart: Vec<Bar>,
    change: Option<Change>,
    happened: Vec<(String, u64, Named, u64)>,
    to_switch: Vec<SwitchLine>,
    to_switch_count: u64,
    to_switch_more: u64,
    calls: Vec<CallLine>,
    calls_count: u64,
    calls_more: u64,
    calls_coming: u64,
    planned: Vec<(&'static str, u64)>,
    planned_count: u64,
    unreadable: Vec<GroupLine>,
    unreadable_count: u64,
    last_scan: Option<ScanLine>,
    outbox: Vec<(&'static str, u64)>,
    holds: Vec<HoldLine>,
    bad_rows: u64,
    warning: Option<String>,
}

#[derive(Serialize)]
struct CampaignLine {
    id: String,
    deadline: String,
    days_left: i64,
}

/// One day of the chart.
#[derive(Serialize)]
struct Bar {
    day: String,
    affected: u64,
    blocks: String,
    percent: u64,
}

/// The burn-down in numbers.
#[derive(Serialize)]
struct Change {
    days: i64,
    from: u64,
    to: u64,
    /// Sites switched a day, one decimal.
    rate: String,
    falls: bool,
    /// Sites left at the first deadline if it goes on so.
    left: u64,
    ahead: bool,
}

#[derive(Serialize)]
struct SwitchLine {
    id: String,
    name: String,
    campaign: Option<String>,
    sites: u64,
    deadline: String,
    days_left: i64,
    told: Option<String>,
}

#[derive(Serialize)]
struct CallLine {
    id: String,
    name: String,
    phone: Option<String>,
    why: &'static str,
}

#[derive(Serialize)]
struct GroupLine {
    reason: &'static str,
    count: u64,
    customers: Vec<(String, String)>,
    more: bool,
}

#[derive(Serialize)]
struct ScanLine {
    at: String,
    outcome: Option<&'static str>,
    sites: u64,
    unreadable: u64,
    detail: Option<String>,
}

#[derive(Serialize)]
struct HoldLine {
    reason: String,
    by: String,
    at: String,
}

/// The digest's mail.
///
/// # Errors
/// [`RenderError`]: never, by test.
pub fn digest(facts: &DigestFacts, language: Language) -> Result<Texts, RenderError> {
    let mut view = view(facts, language);
    let subject = part(&format!("digest.subject.{}", language.as_str()), &view)?;
    view.subject = subject.trim().to_owned();
    Ok(Texts { text: part("digest.txt", &view)?, html: part("digest.html", &view)?, subject: view.subject })
}

fn view(facts: &DigestFacts, language: Language) -> View {
    let of = |word: &str| facts.sites.iter().find(|(w, _)| *w == word).map_or(0, |(_, n)| *n);
    let name = |name: &str| one_line(name, 60);
    let shown = |all: &[(String, String)]| all.iter().map(|(id, n)| (id.clone(), name(n))).collect::<Vec<_>>();
    View {
        ja: language == Language::Ja,
        subject: String::new(),
        now: moment(facts.now, facts.zone),
        today: day(language, facts.today),
        mode: facts.mode,
        since: facts.since.map(|at| moment(at, facts.zone)),
        campaigns: facts
            .campaigns
            .iter()
            .map(|(id, deadline)| CampaignLine {
                id: id.clone(),
                deadline: day(language, *deadline),
                days_left: (*deadline - facts.today).num_days(),
            })
            .collect(),
        affected: of("affected"),
        sites: facts.sites.clone(),
        chart: chart(&facts.days),
        change: change(facts),
        happened: facts
            .happened
            .iter()
            .map(|(word, n, customers)| (word.clone(), *n, shown(customers), n.saturating_sub(customers.len() as u64)))
            .collect(),
        to_switch: facts.to_switch.iter().take(LISTED).map(|s| switch_line(s, facts.today, language)).collect(),
        to_switch_count: facts.to_switch.len() as u64,
        to_switch_more: facts.to_switch.len().saturating_sub(LISTED) as u64,
        calls: facts
            .calls
            .iter()
            .take(LISTED)
            .map(|c| CallLine {
                id: c.id.clone(),
                name: name(&c.name),
                phone: c.phone.as_deref().map(|p| one_line(p, 60)),
                why: c.why,
            })
            .collect(),
        calls_count: facts.calls.len() as u64,
        calls_more: facts.calls.len().saturating_sub(LISTED) as u64,
        calls_coming: facts.calls_coming,
        planned_count: facts.planned.iter().map(|(_, n)| n).sum(),
        planned: facts.planned.clone(),
        unreadable_count: facts.unreadable.iter().map(|g| g.count).sum(),
        unreadable: facts
            .unreadable
            .iter()
            .map(|g| GroupLine {
                reason: g.reason,
                count: g.count,
                customers: shown(&g.customers),
                more: g.count > g.customers.len() as u64,
            })
            .collect(),
        last_scan: facts.last_scan.as_ref().map(|scan| ScanLine {
            at: moment(scan.at, facts.zone),
            outcome: scan.outcome,
            sites: scan.sites,
            unreadable: scan.unreadable,
            detail: scan.detail.as_deref().map(|text| one_line(text, 200)),
        }),
        outbox: facts.outbox.clone(),
        holds: facts
            .holds
            .iter()
            .map(|h| HoldLine { reason: one_line(&h.reason, 300), by: mask(&h.by), at: moment(h.at, facts.zone) })
            .collect(),
        bad_rows: facts.bad_rows,
        warning: facts.warning.clone(),
    }
}

fn switch_line(s: &ToSwitch, today: NaiveDate, language: Language) -> SwitchLine {
    SwitchLine {
        id: s.id.clone(),
        name: one_line(&s.name, 60),
        campaign: s.campaign.clone(),
        sites: s.sites,
        deadline: day(language, s.deadline),
        days_left: (s.deadline - today).num_days(),
        told: s.told.map(|on| on.format("%m-%d").to_string()),
    }
}

fn chart(days: &[(NaiveDate, u64)]) -> Vec<Bar> {
    let most = days.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
    days.iter()
        .map(|(on, affected)| Bar {
            day: on.format("%m-%d").to_string(),
            affected: *affected,
            blocks: "█".repeat(usize::try_from((affected * BAR).div_ceil(most)).unwrap_or(0)),
            percent: (affected * 100).div_ceil(most),
        })
        .collect()
}

/// From the first to the last day of the chart, and on to the nearest deadline that is still ahead.
fn change(facts: &DigestFacts) -> Option<Change> {
    let ((first, from), (last, to)) = (*facts.days.first()?, *facts.days.last()?);
    let days = (last - first).num_days();
    if days < 1 {
        return None;
    }
    let ahead = facts.campaigns.iter().map(|(_, on)| *on).filter(|on| *on > facts.today).min();
    let (from_i, to_i) = (i64::try_from(from).ok()?, i64::try_from(to).ok()?);
    // Tenths of a site a day, in whole numbers so that it prints the same everywhere.
    let tenths = (from_i - to_i) * 10 / days;
    let left = ahead.map_or(to_i, |on| to_i - (from_i - to_i) * (on - last).num_days() / days);
    Some(Change {
        days,
        from,
        to,
        rate: format!("{}.{}", tenths.abs() / 10, tenths.abs() % 10),
        falls: from_i > to_i,
        left: u64::try_from(left).unwrap_or(0),
        ahead: ahead.is_some(),
    })
}
