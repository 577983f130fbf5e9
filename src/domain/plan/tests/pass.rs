//! A whole pass: one notice a customer, the most urgent first, nothing forgotten.

use super::scene::*;
use crate::domain::campaign::{Campaign, CampaignId, Standing::*};
use crate::domain::case::Case;
use crate::domain::plan::{NoticeKind::*, Pass, by_urgency, plan};

fn in_campaign(case: Case, id: &str) -> Case {
    Case { campaign: CampaignId(id.to_owned()), ..case }
}

fn campaigns() -> Vec<Campaign> {
    let other = Campaign { id: CampaignId("other".to_owned()), deadline: day("2022-08-01"), ..campaign() };
    vec![campaign(), other]
}

fn passed(cases: &[Case], ids: &[&str], on: &str) -> Pass {
    let pass = plan(cases, &customers(ids), &campaigns(), &calendar(), POLICY, day(on));
    let decided = pass.planned.len() + pass.resolved_silently.len() + pass.nothing.len();
    assert_eq!(decided, cases.len(), "every case has a decision");
    pass
}

/// `customer/campaign kind`, in order.
fn words(pass: &Pass) -> Vec<String> {
    pass.planned.iter().map(|p| format!("{}/{} {}", p.customer, p.campaign.0, p.due.kind)).collect()
}

fn check(sentence: &str, cases: &[Case], on: &str, expected: &[&str]) {
    assert_eq!(words(&passed(cases, &["C1", "C2", "C3", "C4"], on)), expected, "{sentence}");
}

#[test]
fn at_most_one_notice_a_customer_and_day() {
    let both = |c: fn(&str) -> Case| [c("C1"), in_campaign(c("C1"), "other")];
    let affected = |id: &str| case(id).site("A", Affected, 0);
    check("of two campaigns the nearer deadline", &both(affected), "2022-07-01", &["C1/other first"]);
    let [mut basic, mut other] = both(affected);
    other = other.told(First, 1, "", "2022-07-01").naming("2022-08-01");
    check("a second pass on that day brings nothing", &[basic.clone(), other.clone()], "2022-07-01", &[]);
    check(
        "the next business day the loser's turn has come",
        &[basic.clone(), other.clone()],
        "2022-07-04",
        &["C1/basic first"],
    );
    basic = basic.told(First, 1, "", "2022-07-04").held();
    check(
        "a held notice is not sent: the other may go",
        &[basic.clone(), in_campaign(affected("C1"), "other")],
        "2022-07-04",
        &["C1/other first"],
    );
    let resolved = in_campaign(case("C1").site("A", Clear, 2).told(Resolved, 1, "", "2022-07-01").resolved(), "other");
    check("told of a resolved case today", &[affected("C1"), resolved], "2022-07-01", &[]);
    let pass = passed(&both(affected), &["C1"], "2022-07-01");
    assert!(pass.nothing[0].2.contains("first notice goes first"), "{:?}", pass.nothing);
}

#[test]
fn the_most_urgent_goes_first() {
    let cases = [
        case("C1").site("A", Clear, 2).told(First, 1, "", "2022-07-01"),
        case("C2").site("A", ConsentMissing, 0),
        case("C4").site("A", Affected, 0),
        case("C3").site("A", Affected, 0).told(First, 1, "", "2022-07-01").told(Resolved, 1, "", "2022-07-08").round(2),
        in_campaign(case("C4").site("A", Affected, 0), "other"),
    ];
    check(
        "affected sites by deadline, then consent, then good news",
        &cases,
        "2022-07-11",
        &["C4/other first", "C3/basic regressed", "C2/basic consent", "C1/basic resolved"],
    );
    let reversed: Vec<_> = cases.iter().rev().cloned().collect();
    check(
        "whatever the order of the cases",
        &reversed,
        "2022-07-11",
        &["C4/other first", "C3/basic regressed", "C2/basic consent", "C1/basic resolved"],
    );
}

#[test]
fn a_fleet_planned_in_parts_is_planned_as_a_whole() {
    let ids = ["C1", "C2", "C3", "C4"];
    let affected = |id: &str| case(id).site("A", Affected, 0);
    let cases = [
        affected("C1"),
        in_campaign(affected("C1").told(First, 1, "", "2022-07-01").naming("2022-08-01"), "other"),
        case("C2").site("A", Clear, 2).told(First, 1, "", "2022-07-01"),
        in_campaign(affected("C2"), "other"),
        case("C3").site("A", ConsentMissing, 0),
        affected("C4"),
        in_campaign(affected("C4"), "other"),
    ];
    let whole = passed(&cases, &ids, "2022-07-11");
    assert_eq!(whole.planned.len(), 4);
    for parts in [[0..2, 2..4, 4..5, 5..7], [5..7, 0..4, 4..4, 4..5]] {
        let mut planned: Vec<_> =
            parts.into_iter().flat_map(|part| passed(&cases[part], &ids, "2022-07-11").planned).collect();
        by_urgency(&mut planned, day("2022-07-11"));
        assert_eq!(planned, whole.planned);
    }
}

#[test]
fn a_held_notice_is_not_planned_again() {
    let affected = || case("C1").site("A", Affected, 0);
    check("first", &[affected().told(First, 1, "", "2022-07-01").held()], "2022-07-04", &[]);
    check(
        "the same milestone",
        &[affected().told(First, 1, "", "2022-07-01").told(Reminder, 1, "60d", "2022-08-02").held()],
        "2022-08-03",
        &[],
    );
    check(
        "the next milestone is another notice",
        &[affected().told(First, 1, "", "2022-07-01").told(Reminder, 1, "60d", "2022-08-02").held()],
        "2022-09-01",
        &["C1/basic reminder"],
    );
    check(
        "overdue, whatever the day",
        &[affected().told(First, 1, "", "2022-07-01").told(Overdue, 1, "2022-10-03", "2022-10-03").held()],
        "2022-10-12",
        &[],
    );
    check(
        "consent, whatever the day",
        &[case("C1").site("A", ConsentMissing, 0).told(Consent, 1, "2022-07-01", "2022-07-01").held()],
        "2022-07-20",
        &[],
    );
    check(
        "one of an earlier round holds nothing back",
        &[affected().told(First, 1, "", "2022-07-01").held().round(2)],
        "2022-07-04",
        &["C1/basic first"],
    );
}

#[test]
fn what_cannot_be_decided_is_left_alone_and_named() {
    let stranger = case("C9").site("A", Affected, 0);
    let gone = in_campaign(case("C1").site("A", Affected, 0), "gone");
    let pass = passed(&[stranger, gone, case("C2").site("A", Clear, 2)], &["C1", "C2"], "2022-07-01");
    assert_eq!(pass.planned, []);
    assert_eq!(pass.resolved_silently.len(), 1);
    assert!(pass.nothing[0].2.contains("customers file") && pass.nothing[1].2.contains("campaign"), "{pass:?}");
}

#[test]
fn a_notice_names_the_sites_it_is_about() {
    let sites = |case: Case| {
        let pass = passed(&[case], &["C1"], "2022-07-01");
        pass.planned[0].sites.iter().map(|s| s.as_str().to_owned()).collect::<Vec<_>>()
    };
    let mixed =
        || case("C1").site("A", Affected, 0).site("B", ConsentMissing, 0).site("C", Clear, 3).site("D", Affected, 0);
    assert_eq!(sites(mixed()), ["A", "D"]);
    assert_eq!(sites(case("C1").site("B", ConsentMissing, 0).site("C", Clear, 3)), ["B"]);
    assert_eq!(sites(case("C1").site("C", Clear, 3).site("D", Clear, 2).told(First, 1, "", "2022-06-30")), ["C", "D"]);
}

#[test]
fn the_words_of_the_kinds_read_back() {
    use crate::domain::plan::NoticeKind;
    for kind in NoticeKind::ALL {
        assert_eq!(NoticeKind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(NoticeKind::parse("alert"), None);
}
