//! Who is told nothing though a site is affected: after the end of a campaign that ends, and who has done its part where
//! no look can show it.

use super::scene::*;
use crate::domain::campaign::{Affects, Campaign, CampaignId, Standing::*};
use crate::domain::case::Case;
use crate::domain::customer::Customer;
use crate::domain::delivery::{DeliveryFacts, DeliveryKey};
use crate::domain::plan::{NoticeKind, NoticeKind::*, decide, overtaken};

fn ends() -> Campaign {
    Campaign { affects: Affects::ExchangeOnline, overdue_every: None, ..campaign() }
}

fn done() -> Customer {
    Customer { done: vec![CampaignId("basic".to_owned())], ..customer("C1") }
}

fn waits(kind: NoticeKind) -> DeliveryFacts {
    let key =
        DeliveryKey { customer: customer("C1").id, campaign: campaign().id, round: 1, kind, occasion: String::new() };
    let (day, deadline) = (day("2022-09-30"), day("2022-10-01"));
    DeliveryFacts { key, milestone: None, day, deadline, because: String::new() }
}

#[test]
fn with_overdue_every_off_the_deadline_is_the_end() {
    let asked = |case: &Case, on: &str| word(&decide(case, &customer("C1"), &ends(), &calendar(), POLICY, day(on)));
    let affected = || case("C1").site("A", Affected, 0);
    let told = || affected().told(First, 1, "", "2022-07-01");
    for (sentence, case, on, expected) in [
        ("the last business day before", affected(), "2022-09-30", "first"),
        ("nobody is told for the first time after it", affected(), "2022-10-03", "-"),
        ("nobody is told again", told(), "2022-10-03", "-"),
        ("nor in the next round", told().told(Resolved, 1, "", "2022-09-01").round(2), "2022-10-03", "-"),
        (
            "good news may come",
            case("C1").site("A", Clear, 2).told(First, 1, "", "2022-07-01"),
            "2022-10-03",
            "resolved",
        ),
    ] {
        assert_eq!(asked(&case, on), expected, "{sentence}");
    }
    let waiting = |on: &str| overtaken(&waits(First), &affected(), &customer("C1"), &ends(), &calendar(), day(on));
    assert_eq!(waiting("2022-09-30"), None);
    assert!(waiting("2022-10-03").unwrap().contains("has passed"), "what waited is dropped");
}

#[test]
fn who_is_done_is_told_nothing_where_no_look_can_show_it() {
    let asked = |case: &Case, campaign: &Campaign| {
        word(&decide(case, &done(), campaign, &calendar(), POLICY, day("2022-09-01")))
    };
    let affected = || case("C1").site("A", Affected, 0);
    for (sentence, case, campaign, expected) in [
        ("no first notice", affected(), ends(), "-"),
        ("no reminder", affected().told(First, 1, "", "2022-07-01"), ends(), "-"),
        (
            "the case ends without a word",
            case("C1").site("A", Clear, 2).told(First, 1, "", "2022-07-01"),
            ends(),
            "silently",
        ),
        ("not before it is confirmed", case("C1").site("A", Clear, 1), ends(), "-"),
        ("where a look can show it, the look is believed", affected(), campaign(), "first"),
        ("done with another campaign", affected(), Campaign { id: CampaignId("x".to_owned()), ..ends() }, "first"),
    ] {
        assert_eq!(asked(&case, &campaign), expected, "{sentence}");
    }
    let waiting =
        |campaign: &Campaign| overtaken(&waits(First), &affected(), &done(), campaign, &calendar(), day("2022-09-01"));
    assert!(waiting(&ends()).unwrap().contains("done"));
    assert_eq!(waiting(&campaign()), None);
}
