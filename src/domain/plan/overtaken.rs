//! Whether a notice that waits in the outbox is still true: asked again right before it leaves.
//!
//! It may have waited for an approval, a retry or the next morning. What is overtaken is dropped with its reason; its key
//! is free then, and the next pass decides afresh. How many days are left and what can still be postponed is no matter of
//! this question: the message is rendered anew for its day.

use chrono::NaiveDate;

use super::NoticeKind;
use crate::domain::calendar::Calendar;
use crate::domain::campaign::{Campaign, Milestone, Standing};
use crate::domain::case::{Case, CaseState};
use crate::domain::customer::Customer;
use crate::domain::delivery::DeliveryFacts;

/// Why the notice must not leave on `day` any more; `None` if it may.
///
/// `case` is the notice's case as it stands now. A customer or campaign that is gone from the configuration is the
/// caller's to see.
#[must_use]
pub fn overtaken(
    facts: &DeliveryFacts,
    case: &Case,
    customer: &Customer,
    campaign: &Campaign,
    calendar: &Calendar,
    day: NaiveDate,
) -> Option<String> {
    let kind = facts.key.kind;
    if let Some(why) = super::untold(customer, campaign) {
        return Some(why.to_owned());
    }
    if facts.key.round != case.round {
        return Some(format!("the case is in round {} by now, the notice is of round {}", case.round, facts.key.round));
    }
    match kind.speaks_of() {
        Standing::Affected => affected(facts, case, campaign, campaign.deadline_of(customer), day)
            .or_else(|| nearer_milestone(facts, campaign, calendar, day)),
        Standing::ConsentMissing if case.any(Standing::Affected) => {
            Some("a site is affected: that is to be told first".to_owned())
        }
        Standing::ConsentMissing => nobody_stands(case, Standing::ConsentMissing),
        Standing::Clear if case.any(Standing::Affected) || case.any(Standing::ConsentMissing) => {
            Some("a site is affected or lacks consent again".to_owned())
        }
        Standing::Clear => None,
    }
}

fn nobody_stands(case: &Case, standing: Standing) -> Option<String> {
    match case.state {
        CaseState::Resolved { .. } => Some("the case is resolved".to_owned()),
        CaseState::Open => {
            (!case.any(standing)).then(|| format!("no site of the customer is {} any more", standing.as_str()))
        }
    }
}

fn affected(
    facts: &DeliveryFacts,
    case: &Case,
    campaign: &Campaign,
    deadline: NaiveDate,
    day: NaiveDate,
) -> Option<String> {
    if let Some(why) = nobody_stands(case, Standing::Affected) {
        return Some(why);
    }
    if facts.deadline != deadline {
        return Some(format!("the deadline moved from {} to {deadline}", facts.deadline));
    }
    let before_only = matches!(facts.key.kind, NoticeKind::Reminder | NoticeKind::Rescheduled);
    let over = super::is_over(campaign, deadline, day) || before_only && day >= deadline;
    over.then(|| format!("the deadline {deadline} has passed"))
}

fn nearer_milestone(facts: &DeliveryFacts, campaign: &Campaign, calendar: &Calendar, day: NaiveDate) -> Option<String> {
    let told = |m: &Milestone| facts.key.kind == NoticeKind::Reminder && facts.key.occasion == m.to_string();
    let own = campaign.reminders.iter().find(|m| told(m))?;
    let reached = |m: &&Milestone| {
        let on = calendar.business_day_until(Campaign::milestone_day(facts.deadline, **m));
        m.days < own.days && on.is_some_and(|on| on <= day)
    };
    let nearer = campaign.reminders.iter().filter(reached).min()?;
    Some(format!("the day of the {nearer} reminder is reached"))
}
