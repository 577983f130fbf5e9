//! The life of a site: one customer walked day by day through a whole campaign, every notice listed.

use chrono::TimeDelta;

use super::scene::*;
use crate::domain::calendar::Closed;
use crate::domain::campaign::Affects;
use crate::domain::case::{self, Case, CaseState, LookKind, Told};
use crate::domain::observation::{Observation, RawSettings, Reason, Verdict};
use crate::domain::plan::{NoticeKind, plan};
use crate::domain::site::SiteName;

/// What the scans find from a day on, until the next entry.
type Story<'a> = &'a [(&'a str, &'a [(&'a str, Verdict)])];

/// Scans at 06:00 and 18:00, passes at 10:00, every day of the campaign; `moves` are new deadlines.
fn lived(story: Story<'_>, moves: &[(&str, &str)], opted_out_on: Option<&str>) -> Vec<String> {
    let mut calendar = calendar();
    calendar.closed = vec![
        Closed::Yearly { from: (12, 29), to: (1, 3) },
        Closed::Once { from: day("2022-08-11"), to: day("2022-08-16") },
    ];
    let mut campaign = campaign();
    let mut fleet = customers(&["C1"]);
    let mut current: Option<Case> = None;
    let mut log = Vec::new();
    let last = day("2023-03-31");
    for today in day("2022-07-01").iter_days().take_while(|d| *d <= last) {
        if let Some((_, to)) = moves.iter().find(|(on, _)| day(on) == today) {
            campaign.deadline = day(to);
        }
        for customer in fleet.values_mut() {
            customer.opted_out = opted_out_on.is_some_and(|on| day(on) <= today);
        }
        for hour in [6, 10, 18] {
            if hour == 10 {
                let cases: Vec<Case> = current.clone().into_iter().collect();
                let pass = plan(&cases, &fleet, std::slice::from_ref(&campaign), &calendar, POLICY, today);
                for _ in &pass.resolved_silently {
                    current.as_mut().unwrap().state = CaseState::Resolved { at: morning(&today.to_string()) };
                    log.push(format!("{today} (silently)"));
                }
                for planned in pass.planned {
                    let case = current.as_mut().unwrap();
                    let due = planned.due;
                    if due.kind == NoticeKind::Resolved {
                        case.state = CaseState::Resolved { at: morning(&today.to_string()) };
                    }
                    let what = due.milestone.map_or_else(String::new, |m| format!(" {m}"));
                    let names: Vec<_> = planned.sites.iter().map(SiteName::as_str).collect();
                    log.push(format!("{today} {}{what} [{}]", due.kind, names.join(" ")));
                    case.told.push(Told {
                        kind: due.kind,
                        round: due.round,
                        occasion: due.occasion,
                        day: today,
                        deadline: due.deadline,
                        counts: true,
                    });
                }
                continue;
            }
            let Some((_, sites)) = story.iter().rev().find(|(from, _)| day(from) <= today) else { continue };
            let seen: Vec<Observation> = sites
                .iter()
                .map(|(name, verdict)| Observation {
                    customer: case("C1").customer,
                    site: SiteName::new(name).ok(),
                    verdict: *verdict,
                    server_type: None,
                    auth_method: None,
                    raw: RawSettings::default(),
                    detail: None,
                    observed_at: morning(&today.to_string()) + TimeDelta::hours(hour - 6),
                })
                .collect();
            current = case::observe(current, || case("C1"), Affects::BasicAuth, &seen, LookKind::Scan).0;
        }
    }
    log
}

const BASIC: Verdict = Verdict::Affected;
const OAUTH: Verdict = Verdict::Switched;
const DARK: Verdict = Verdict::Unreadable(Reason::Timeout);

#[test]
fn who_never_acts_hears_seven_times_before_the_deadline_and_weekly_after_it() {
    let log = lived(&[("2022-07-01", &[("本社", BASIC)])], &[], None);
    assert_eq!(
        log[..10],
        [
            "2022-07-01 first [本社]",
            "2022-08-02 reminder 60d [本社]",
            "2022-09-01 reminder 30d [本社]",
            "2022-09-16 reminder 14d [本社]",
            "2022-09-23 reminder 7d [本社]",
            "2022-09-28 reminder 3d [本社]",
            "2022-09-30 reminder 1d [本社]",
            "2022-10-03 overdue [本社]",
            "2022-10-10 overdue [本社]",
            "2022-10-17 overdue [本社]",
        ]
    );
    // Mondays to the end of the year (13), then from Wednesday 2023-01-04, the first business day, 13 more.
    assert_eq!(log.iter().filter(|l| l.contains("overdue")).count(), 13 + 13, "{log:#?}");
    assert!(log.iter().any(|l| l.starts_with("2023-01-04 overdue")));
    assert_eq!(log.len(), 7 + 26);
}

#[test]
fn switching_is_confirmed_by_two_scans_and_told_once() {
    let log = lived(
        &[
            ("2022-07-01", &[("本社", BASIC), ("大阪", BASIC)]),
            ("2022-07-05", &[("本社", OAUTH), ("大阪", BASIC)]),
            ("2022-08-15", &[("本社", OAUTH), ("大阪", OAUTH)]),
        ],
        &[],
        None,
    );
    // Both are clear on 08-15, within the company's holidays: the pass of 08-17 resolves.
    assert_eq!(
        log,
        ["2022-07-01 first [大阪 本社]", "2022-08-02 reminder 60d [大阪]", "2022-08-17 resolved [大阪 本社]"]
    );
}

#[test]
fn an_unreadable_site_stays_where_it_stood() {
    let log = lived(
        &[
            ("2022-08-30", &[("本社", BASIC)]),
            ("2022-08-31", &[("本社", DARK)]),
            ("2022-09-20", &[("本社", OAUTH)]),
            ("2022-09-21", &[("本社", DARK)]),
        ],
        &[],
        None,
    );
    // The planner goes by the standing; the look right before a notice (daemon) is what keeps an unreadable site's back.
    assert_eq!(
        log,
        [
            "2022-08-30 first [本社]",
            "2022-09-01 reminder 30d [本社]",
            "2022-09-16 reminder 14d [本社]",
            "2022-09-21 resolved [本社]",
        ]
    );
}

#[test]
fn a_relapse_is_told_as_one_and_begins_a_round_of_its_own() {
    let log = lived(
        &[
            ("2022-07-01", &[("本社", BASIC)]),
            ("2022-07-11", &[("本社", OAUTH)]),
            ("2022-08-01", &[("本社", BASIC)]),
            ("2022-09-05", &[("本社", Verdict::ConsentMissing)]),
            ("2022-09-14", &[("本社", OAUTH)]),
        ],
        &[],
        None,
    );
    assert_eq!(
        log,
        [
            "2022-07-01 first [本社]",
            "2022-07-12 resolved [本社]",
            "2022-08-01 regressed [本社]",
            "2022-08-02 reminder 60d [本社]",
            "2022-09-01 reminder 30d [本社]",
            "2022-09-05 consent [本社]",
            "2022-09-12 consent [本社]",
            "2022-09-15 resolved [本社]",
        ]
    );
}

#[test]
fn what_comes_and_goes_over_a_weekend_is_never_told() {
    let log = lived(
        &[
            ("2022-07-01", &[("本社", OAUTH)]),
            ("2022-07-02", &[("本社", BASIC)]),
            ("2022-07-03", &[("本社", OAUTH)]),
            ("2022-08-01", &[("本社", BASIC)]),
        ],
        &[],
        None,
    );
    assert_eq!(log[..3], ["2022-07-04 (silently)", "2022-08-01 first [本社]", "2022-08-02 reminder 60d [本社]"]);
}

#[test]
fn a_deadline_that_moves_is_told_once_and_its_reminders_begin_anew() {
    let log = lived(
        &[("2022-08-20", &[("本社", BASIC)]), ("2022-12-27", &[("大阪", OAUTH)])],
        &[("2022-09-03", "2022-12-31")],
        None,
    );
    assert_eq!(
        log,
        [
            "2022-08-22 first [本社]",
            "2022-09-01 reminder 30d [本社]",
            "2022-09-05 rescheduled [本社]",
            "2022-11-01 reminder 60d [本社]",
            "2022-12-16 reminder 14d [本社]",
            "2022-12-23 reminder 7d [本社]",
            "2022-12-28 resolved [本社]",
        ],
        "30d was had in this round; the site that vanished on 12-27 is affected no more"
    );
}

#[test]
fn opting_out_moves_the_customers_own_deadline() {
    let log = lived(&[("2022-09-20", &[("本社", BASIC)])], &[], Some("2022-09-29"));
    assert_eq!(
        log[..7],
        [
            "2022-09-20 first [本社]",
            "2022-09-23 reminder 7d [本社]",
            "2022-09-28 reminder 3d [本社]",
            "2022-09-29 rescheduled [本社]",
            "2022-11-01 reminder 60d [本社]",
            "2022-12-01 reminder 30d [本社]",
            "2022-12-16 reminder 14d [本社]",
        ]
    );
    assert_eq!(
        log[7], "2022-12-28 reminder 1d [本社]",
        "1d is 12-30, a closed day: told on the last business day before"
    );
    assert_eq!(log[8], "2023-01-04 overdue [本社]");
}

#[test]
fn consent_is_asked_for_until_it_is_given() {
    let log =
        lived(&[("2022-12-20", &[("本社", Verdict::ConsentMissing)]), ("2023-01-10", &[("本社", OAUTH)])], &[], None);
    assert_eq!(
        log,
        [
            "2022-12-20 consent [本社]",
            "2022-12-27 consent [本社]",
            "2023-01-04 consent [本社]",
            "2023-01-11 resolved [本社]"
        ]
    );
}
