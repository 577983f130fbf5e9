//! What may still leave after it has waited.

use super::scene::*;
use crate::domain::campaign::{Campaign, Standing::*};
use crate::domain::case::Case;
use crate::domain::customer::Customer;
use crate::domain::delivery::{DeliveryFacts, DeliveryKey};
use crate::domain::plan::{NoticeKind, NoticeKind::*, overtaken};

fn waiting(kind: NoticeKind, occasion: &str) -> DeliveryFacts {
    DeliveryFacts {
        key: DeliveryKey {
            customer: customer("C1").id,
            campaign: campaign().id,
            round: 1,
            kind,
            occasion: occasion.to_owned(),
        },
        milestone: None,
        day: day("2022-09-01"),
        deadline: day("2022-10-01"),
        because: String::new(),
    }
}

fn asked(facts: &DeliveryFacts, case: &Case, customer: &Customer, campaign: &Campaign, on: &str) -> String {
    overtaken(facts, case, customer, campaign, &calendar(), day(on)).unwrap_or_default()
}

#[test]
fn an_overtaken_notice_does_not_leave() {
    let check = |sentence: &str, kind, occasion: &str, case: &Case, on: &str, expected: &str| {
        let why = asked(&waiting(kind, occasion), case, &customer("C1"), &campaign(), on);
        assert_eq!(expected.is_empty(), why.is_empty(), "{sentence}: {why}");
        assert!(why.contains(expected), "{sentence}: {why}");
    };
    let affected = || case("C1").site("A", Affected, 0);
    let clear = || case("C1").site("A", Clear, 1);
    let consent = || case("C1").site("A", ConsentMissing, 0);
    for kind in [First, Regressed, Rescheduled, Overdue, Reminder] {
        check("still affected", kind, "60d", &affected(), "2022-08-30", "");
        check("affected no more", kind, "60d", &clear(), "2022-08-30", "no site of the customer is affected");
        check("affected no more, without consent now", kind, "60d", &consent(), "2022-08-30", "no site");
        check("resolved meanwhile", kind, "60d", &clear().resolved(), "2022-08-30", "resolved");
        check("a new round", kind, "60d", &affected().round(2), "2022-08-30", "round 2");
    }
    check("a first notice stays true after the deadline", First, "", &affected(), "2022-10-03", "");
    check("a reminder does not", Reminder, "1d", &affected(), "2022-10-03", "has passed");
    check("nor does the news that it moved", Rescheduled, "x", &affected(), "2022-10-03", "has passed");
    check("the day before the next milestone's", Reminder, "30d", &affected(), "2022-09-15", "");
    check("on it", Reminder, "30d", &affected(), "2022-09-16", "14d");
    check("the last one", Reminder, "1d", &affected(), "2022-09-30", "");
    check("consent is still missing", Consent, "2022-09-01", &consent(), "2022-09-02", "");
    check("consent was given", Consent, "2022-09-01", &clear(), "2022-09-02", "consent_missing any more");
    check(
        "a site is affected beside it",
        Consent,
        "2022-09-01",
        &consent().site("B", Affected, 0),
        "2022-09-02",
        "first",
    );
    check("good news of a resolved case", Resolved, "", &clear().resolved(), "2022-09-02", "");
    check("a relapse", Resolved, "", &affected().round(2), "2022-09-02", "round 2");
    check("a relapse before the case was reopened", Resolved, "", &affected(), "2022-09-02", "again");
}

#[test]
fn what_the_operators_changed_counts() {
    let (case, first) = (case("C1").site("A", Affected, 0), waiting(First, ""));
    let on = "2022-09-02";
    let silent = Customer { notify: false, ..customer("C1") };
    assert!(asked(&first, &case, &silent, &campaign(), on).contains("notify = no"));
    let moved = Campaign { deadline: day("2022-11-01"), ..campaign() };
    assert!(asked(&first, &case, &customer("C1"), &moved, on).contains("2022-11-01"));
    let opted_out = Customer { opted_out: true, ..customer("C1") };
    assert!(asked(&first, &case, &opted_out, &campaign(), on).contains("2022-12-31"));
    let fewer = Campaign { reminders: Vec::new(), ..campaign() };
    assert_eq!(asked(&waiting(Reminder, "30d"), &case, &customer("C1"), &fewer, on), "", "a milestone taken out later");
}
