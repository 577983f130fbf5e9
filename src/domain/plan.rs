//! Which notice is due to whom on a day, and why ("When a notice is due"). Data in, data out; the doer is left no choice.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;

use super::calendar::Calendar;
use super::campaign::{Campaign, CampaignId, Milestone, Standing};
use super::case::{Case, CaseState};
use super::customer::{Customer, Customers};
use super::site::{CustomerId, SiteName};

mod overtaken;
mod walk;

pub use overtaken::overtaken;
pub use walk::{cap, walk};

/// What a notice is about, in the order in which the planner looks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// A resolved case has an affected site again, and the customer had been told before.
    Regressed,
    /// The first notice of a round.
    First,
    /// The deadline moved since the last notice.
    Rescheduled,
    /// The deadline has passed.
    Overdue,
    /// The deadline comes near.
    Reminder,
    /// OAuth is chosen, but consent is missing.
    Consent,
    /// The switch was confirmed.
    Resolved,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Regressed, Self::First, Self::Rescheduled, Self::Overdue, Self::Reminder, Self::Consent, Self::Resolved];

    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Reminder => "reminder",
            Self::Overdue => "overdue",
            Self::Consent => "consent",
            Self::Resolved => "resolved",
            Self::Regressed => "regressed",
            Self::Rescheduled => "rescheduled",
        }
    }

    /// The kind whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }

    /// The standing of the sites such a notice speaks of.
    #[must_use]
    pub fn speaks_of(self) -> Standing {
        match self {
            Self::Consent => Standing::ConsentMissing,
            Self::Resolved => Standing::Clear,
            Self::First | Self::Reminder | Self::Overdue | Self::Regressed | Self::Rescheduled => Standing::Affected,
        }
    }
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A notice that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its kind.
    pub kind: NoticeKind,
    /// The round it belongs to.
    pub round: u32,
    /// The reminder's milestone.
    pub milestone: Option<Milestone>,
    /// What makes it unique within (round, kind): the milestone, the day of a repeated kind, the new date of a moved
    /// deadline, or nothing for what is said once a round.
    pub occasion: String,
    /// The customer's deadline.
    pub deadline: NaiveDate,
    /// The deadline the customer was told last, where it is another.
    pub previous_deadline: Option<NaiveDate>,
    /// Why, in words for operators.
    pub because: String,
}

/// What is to be done for one case on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Tell the customer.
    Tell(Due),
    /// The case is resolved and nobody had been told, so nobody is told now.
    ResolveSilently,
    /// Nothing, and why.
    Nothing(String),
}

/// The numbers that the rules are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Scans in a row before a case counts as resolved.
    pub confirm_resolved: u32,
}

/// Decides for one case on one civil day: at most one notice, the first rule that applies.
#[must_use]
pub fn decide(
    case: &Case,
    customer: &Customer,
    campaign: &Campaign,
    calendar: &Calendar,
    policy: Policy,
    day: NaiveDate,
) -> Decision {
    if let Some(off) = calendar.day_off(day) {
        return Decision::Nothing(format!("{day} is no business day: {off}"));
    }
    if case.any(Standing::Affected) {
        return affected(case, customer, campaign, calendar, day);
    }
    if let Some(why) = untold(customer, campaign) {
        return match case.state {
            CaseState::Open if case.confirmed_clear(policy.confirm_resolved) => Decision::ResolveSilently,
            _ => Decision::Nothing(why.to_owned()),
        };
    }
    if case.any(Standing::ConsentMissing) {
        return consent(case, customer, campaign, day);
    }
    resolved(case, customer, campaign, policy)
}

/// Why this customer is told nothing in this campaign, whatever its sites: the customers file says so.
fn untold(customer: &Customer, campaign: &Campaign) -> Option<&'static str> {
    match () {
        () if !customer.notify => Some("the customers file says notify = no"),
        () if campaign.is_done_by(customer) => {
            Some("the customers file says that the customer has done its part (done)")
        }
        () => None,
    }
}

/// From the deadline on nothing is to be said of affected sites.
fn is_over(campaign: &Campaign, deadline: NaiveDate, day: NaiveDate) -> bool {
    campaign.overdue_every.is_none() && day >= deadline
}

fn affected(case: &Case, customer: &Customer, campaign: &Campaign, calendar: &Calendar, day: NaiveDate) -> Decision {
    if let Some(why) = untold(customer, campaign) {
        return Decision::Nothing(why.to_owned());
    }
    let deadline = campaign.deadline_of(customer);
    if is_over(campaign, deadline, day) {
        return Decision::Nothing(format!("the deadline {deadline} has passed and overdue_every is \"off\""));
    }
    let due = |kind, occasion: String, because: String| {
        Decision::Tell(Due {
            kind,
            round: case.round,
            milestone: None,
            occasion,
            deadline,
            previous_deadline: None,
            because,
        })
    };
    let sites = case.standing(Standing::Affected).count();
    let since = case.standing(Standing::Affected).map(|(_, site)| site.since).min().unwrap_or(case.round_at);
    let since = calendar.day(since);

    let told_of_it = case.told_this_round().any(|t| t.kind.speaks_of() == Standing::Affected);
    if case.round > 1 && !told_of_it && case.told.iter().any(|t| t.counts && t.round < case.round) {
        let because = format!("{sites} site(s) affected again since {since}; the case had been resolved");
        return due(NoticeKind::Regressed, String::new(), because);
    }
    let Some(last) = case.told_this_round().max_by_key(|t| t.day) else {
        return due(NoticeKind::First, String::new(), format!("{sites} site(s) affected since {since}; not told yet"));
    };
    // A consent notice names no deadline, so it neither makes a move known nor can it be contradicted by one.
    let named = case.told_this_round().filter(|t| t.kind.speaks_of() == Standing::Affected).max_by_key(|t| t.day);
    if let Some(named) = named
        && day < deadline
        && named.deadline != deadline
    {
        return Decision::Tell(Due {
            kind: NoticeKind::Rescheduled,
            round: case.round,
            milestone: None,
            occasion: moved(case, named.deadline, deadline),
            deadline,
            previous_deadline: Some(named.deadline),
            because: format!("the deadline moved from {} (told on {}) to {deadline}", named.deadline, named.day),
        });
    }
    if day >= deadline {
        return overdue(case, campaign, deadline, day, due);
    }
    reminder(case, campaign, calendar, deadline, last.day, day)
}

/// The occasion of a `rescheduled` notice: unique for each move, also for a move back and forth.
fn moved(case: &Case, from: NaiveDate, to: NaiveDate) -> String {
    let moves = case.told_this_round().filter(|t| t.kind == NoticeKind::Rescheduled).count() + 1;
    format!("{moves}:{from}..{to}")
}

fn overdue(
    case: &Case,
    campaign: &Campaign,
    deadline: NaiveDate,
    day: NaiveDate,
    due: impl Fn(NoticeKind, String, String) -> Decision,
) -> Decision {
    let days_over = (day - deadline).num_days();
    let every = campaign.overdue_every.unwrap_or(u32::MAX);
    match case.told_this_round().map(|t| t.day).filter(|d| *d >= deadline).max() {
        Some(last) if (day - last).num_days() < i64::from(every) => {
            Decision::Nothing(format!("told on {last}; the next overdue notice is due {every} days later"))
        }
        last => {
            let told = last.map_or_else(|| "not told since".to_owned(), |d| format!("told on {d}"));
            due(
                NoticeKind::Overdue,
                day.to_string(),
                format!("{days_over} day(s) past the deadline {deadline}; {told}"),
            )
        }
    }
}

fn reminder(
    case: &Case,
    campaign: &Campaign,
    calendar: &Calendar,
    deadline: NaiveDate,
    last_told: NaiveDate,
    day: NaiveDate,
) -> Decision {
    let used = |m: Milestone| {
        case.told
            .iter()
            .any(|t| t.round == case.round && t.kind == NoticeKind::Reminder && t.occasion == m.to_string() && t.counts)
    };
    let reached = campaign
        .reminders
        .iter()
        .filter_map(|m| Some((*m, calendar.business_day_until(Campaign::milestone_day(deadline, *m))?)))
        .filter(|(m, on)| *on <= day && *on > last_told && !used(*m))
        .min_by_key(|(m, _)| m.days);
    match reached {
        Some((milestone, on)) => Decision::Tell(Due {
            kind: NoticeKind::Reminder,
            round: case.round,
            milestone: Some(milestone),
            occasion: milestone.to_string(),
            deadline,
            previous_deadline: None,
            because: format!(
                "still affected; the {milestone} reminder's day {on} is reached, last told on {last_told}"
            ),
        }),
        None => Decision::Nothing(format!("told on {last_told}; the next reminder's day is not reached")),
    }
}

fn consent(case: &Case, customer: &Customer, campaign: &Campaign, day: NaiveDate) -> Decision {
    let last = case.told_this_round().filter(|t| t.kind == NoticeKind::Consent).map(|t| t.day).max();
    if let Some(last) = last
        && (day - last).num_days() < i64::from(campaign.consent_every)
    {
        return Decision::Nothing(format!(
            "told of the missing consent on {last}; again after {} days",
            campaign.consent_every
        ));
    }
    Decision::Tell(Due {
        kind: NoticeKind::Consent,
        round: case.round,
        milestone: None,
        occasion: day.to_string(),
        deadline: campaign.deadline_of(customer),
        previous_deadline: None,
        because: match last {
            Some(last) => format!("OAuth is chosen, consent is still missing; last told on {last}"),
            None => "OAuth is chosen, but consent is missing".to_owned(),
        },
    })
}

fn resolved(case: &Case, customer: &Customer, campaign: &Campaign, policy: Policy) -> Decision {
    if let CaseState::Resolved { .. } = case.state {
        return Decision::Nothing("the case is resolved".to_owned());
    }
    if !case.confirmed_clear(policy.confirm_resolved) {
        return Decision::Nothing(format!("not clear for {} scans in a row yet", policy.confirm_resolved));
    }
    if case.told_this_round().next().is_none() {
        return Decision::ResolveSilently;
    }
    Decision::Tell(Due {
        kind: NoticeKind::Resolved,
        round: case.round,
        milestone: None,
        occasion: String::new(),
        deadline: campaign.deadline_of(customer),
        previous_deadline: None,
        because: format!("no site is affected for {} scans in a row", policy.confirm_resolved),
    })
}

/// One notice of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// To whom.
    pub customer: CustomerId,
    /// In which campaign.
    pub campaign: CampaignId,
    /// What and why.
    pub due: Due,
    /// The sites it speaks of, by the stored standings.
    pub sites: Vec<SiteName>,
    /// Why it would be held, if it would.
    pub held: Option<String>,
}

/// Everything a pass on one day decides, from all cases. Nothing is forgotten: each case has a decision in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pass {
    /// The notices, most urgent first, at most one a customer.
    pub planned: Vec<Planned>,
    /// The cases that are resolved without a word.
    pub resolved_silently: Vec<(CustomerId, CampaignId)>,
    /// The cases for which nothing is done, and why.
    pub nothing: Vec<(CustomerId, CampaignId, String)>,
}

/// Plans one day: decides each case, lets at most one notice a customer through, and orders them by urgency.
///
/// Cases of customers that are not in `customers` (gone from the file, or their row has an error) are left alone.
#[must_use]
pub fn plan(
    cases: &[Case],
    customers: &impl Customers,
    campaigns: &[Campaign],
    calendar: &Calendar,
    policy: Policy,
    day: NaiveDate,
) -> Pass {
    let mut pass = Pass::default();
    let mut told_today: BTreeMap<&CustomerId, &Case> = BTreeMap::new();
    for case in cases {
        if case.told.iter().any(|t| t.counts && t.day == day) {
            told_today.insert(&case.customer, case);
        }
    }
    let mut tell: Vec<(&Case, Due)> = Vec::new();
    for case in cases {
        let nothing = |why: String| (case.customer.clone(), case.campaign.clone(), why);
        let Some(customer) = customers.customer(&case.customer) else {
            pass.nothing.push(nothing("the customer is not in the customers file, or its row has an error".to_owned()));
            continue;
        };
        let Some(campaign) = campaigns.iter().find(|c| c.id == case.campaign) else {
            pass.nothing.push(nothing("the campaign is not in the configuration".to_owned()));
            continue;
        };
        match decide(case, &customer, campaign, calendar, policy, day) {
            Decision::Nothing(why) => pass.nothing.push(nothing(why)),
            Decision::ResolveSilently => pass.resolved_silently.push((case.customer.clone(), case.campaign.clone())),
            Decision::Tell(due) => match waiting(case, &due)
                .or_else(|| told_today.get(&case.customer).map(|_| "the customer was told today already".to_owned()))
            {
                Some(why) => pass.nothing.push(nothing(why)),
                None => tell.push((case, due)),
            },
        }
    }
    tell.sort_by(|(a, x), (b, y)| {
        let by_name = || (&a.customer, &a.campaign).cmp(&(&b.customer, &b.campaign));
        urgency(x, day).cmp(&urgency(y, day)).then_with(by_name)
    });
    let mut chosen: BTreeMap<&CustomerId, NoticeKind> = BTreeMap::new();
    for (case, due) in tell {
        if let Some(kind) = chosen.get(&case.customer) {
            let why = format!("at most one notice a customer and day: the {kind} notice goes first");
            pass.nothing.push((case.customer.clone(), case.campaign.clone(), why));
            continue;
        }
        chosen.insert(&case.customer, due.kind);
        pass.planned.push(Planned {
            customer: case.customer.clone(),
            campaign: case.campaign.clone(),
            sites: case.standing(due.kind.speaks_of()).map(|(name, _)| name.clone()).collect(),
            due,
            held: None,
        });
    }
    pass
}

/// Puts together what was planned for one day in parts: in the order in which [`plan`] would give all of it. (What it says of a
/// customer rests on that customer's cases alone, so a fleet may be planned in parts as long as none is in two.)
pub fn by_urgency(planned: &mut [Planned], day: NaiveDate) {
    planned.sort_by(|a, b| {
        let by_name = || (&a.customer, &a.campaign).cmp(&(&b.customer, &b.campaign));
        urgency(&a.due, day).cmp(&urgency(&b.due, day)).then_with(by_name)
    });
}

/// The same notice is in the outbox already, held.
fn waiting(case: &Case, due: &Due) -> Option<String> {
    let held = |t: &&super::case::Told| !t.counts && t.round == due.round && t.kind == due.kind;
    case.told
        .iter()
        .filter(held)
        .find(|t| t.occasion == due.occasion || repeats(due.kind))
        .map(|t| format!("a {} notice is held in the outbox since {}", t.kind, t.day))
}

/// Kinds whose occasion is the day: a held one stands for the later days too.
fn repeats(kind: NoticeKind) -> bool {
    matches!(kind, NoticeKind::Overdue | NoticeKind::Consent)
}

/// The smaller, the more urgent: what the customer must act on first, then the nearest deadline, good news last.
fn urgency(due: &Due, day: NaiveDate) -> (u8, i64, NoticeKind) {
    let class = match due.kind.speaks_of() {
        Standing::Affected => 0,
        Standing::ConsentMissing => 1,
        Standing::Clear => 2,
    };
    (class, (due.deadline - day).num_days(), due.kind)
}

#[cfg(test)]
mod tests;
