//! What the coming days would bring "as if nobody changed anything": the planner, applied to its own decisions.
//!
//! No site moves: who is affected stays so. The scans go on and find the same, so that a site that is clear counts one
//! scan a day more and a case that waits only for `confirm_resolved` is resolved on the way. Nothing is written; the
//! cases handed in are not changed.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::NaiveDate;

use super::{NoticeKind, Planned, Policy, plan};
use crate::domain::calendar::Calendar;
use crate::domain::campaign::{Campaign, CampaignId, Standing};
use crate::domain::case::{Case, CaseState, Told};
use crate::domain::customer::Customers;
use crate::domain::site::CustomerId;

/// The farthest a walk goes, in days: ten years. A later end is cut off, so that a mistyped year ends too.
const DAYS_MAX: usize = 3_660;

/// Walks from `from` to `to`, both included, and returns the notices with the day on which each would be queued.
///
/// Of the first notices of one day those beyond `new_notices_allowed` are `held`: they do not count as told, and as long
/// as nobody approves them they are not planned again.
#[must_use]
#[allow(clippy::too_many_arguments, reason = "they are the planner's own inputs, and the days")]
pub fn walk(
    cases: &[Case],
    customers: &impl Customers,
    campaigns: &[Campaign],
    calendar: &Calendar,
    policy: Policy,
    from: NaiveDate,
    to: NaiveDate,
    new_notices_allowed: usize,
) -> Vec<(NaiveDate, Planned)> {
    // What the last day decides changes no other, so a walk of one day copies nothing.
    let mut cases = Cow::Borrowed(cases);
    let places: HashMap<(CustomerId, CampaignId), usize> = match from < to {
        true => cases.iter().enumerate().map(|(n, c)| ((c.customer.clone(), c.campaign.clone()), n)).collect(),
        false => HashMap::new(),
    };
    let mut told = Vec::new();
    for day in from.iter_days().take_while(|day| *day <= to).take(DAYS_MAX) {
        if day > from {
            cases.to_mut().iter_mut().for_each(|case| scanned_again(case, policy));
        }
        if !calendar.is_business_day(day) {
            continue;
        }
        let pass = plan(&cases, customers, campaigns, calendar, policy, day);
        let goes_on = day < to;
        for case in pass.resolved_silently.into_iter().filter(|_| goes_on) {
            cases.to_mut()[places[&case]].state = resolved_on(day, calendar);
        }
        let mut planned = pass.planned;
        cap(&mut planned, new_notices_allowed);
        for planned in planned {
            if goes_on {
                let place = places[&(planned.customer.clone(), planned.campaign.clone())];
                apply(&mut cases.to_mut()[place], &planned, day, calendar);
            }
            told.push((day, planned));
        }
    }
    told
}

/// Holds the first notices of one pass beyond those that are allowed.
pub fn cap(planned: &mut [Planned], new_notices_allowed: usize) {
    let firsts = planned.iter_mut().filter(|planned| planned.due.kind == NoticeKind::First);
    for planned in firsts.skip(new_notices_allowed) {
        planned.held = Some(format!("cap: more than {new_notices_allowed} first notices in one pass"));
    }
}

/// Another scan that finds the same.
fn scanned_again(case: &mut Case, policy: Policy) {
    for site in case.sites.values_mut() {
        if site.standing == Standing::Clear && site.clear_scans < policy.confirm_resolved {
            site.clear_scans += 1;
        }
    }
}

fn resolved_on(day: NaiveDate, calendar: &Calendar) -> CaseState {
    CaseState::Resolved { at: calendar.instant(day, calendar.opens) }
}

fn apply(case: &mut Case, planned: &Planned, day: NaiveDate, calendar: &Calendar) {
    let due = &planned.due;
    case.told.push(Told {
        kind: due.kind,
        round: due.round,
        occasion: due.occasion.clone(),
        day,
        deadline: due.deadline,
        counts: planned.held.is_none(),
    });
    if due.kind == NoticeKind::Resolved {
        case.state = resolved_on(day, calendar);
    }
}
