//! The seven rules and their boundary days.

use super::scene::*;
use crate::domain::campaign::{Campaign, Standing::*};
use crate::domain::case::Case;
use crate::domain::customer::Customer;
use crate::domain::plan::{Decision, NoticeKind::*, decide};

fn check(sentence: &str, case: &Case, on: &str, expected: &str) {
    assert_eq!(word(&decided(case, on)), expected, "{sentence}");
}

/// An affected case of one site.
fn affected() -> Case {
    case("C1").site("A", Affected, 0)
}

#[test]
fn nothing_is_due_on_a_day_off() {
    check("Friday", &affected(), "2022-07-01", "first");
    check("Saturday", &affected(), "2022-07-02", "-");
    check("nor is a case resolved", &case("C1").site("A", Clear, 9), "2022-07-02", "-");
}

#[test]
fn rule_1_regressed() {
    let relapse = affected().told(First, 1, "", "2022-07-01").told(Resolved, 1, "", "2022-07-15").round(2);
    check("told in an earlier round", &relapse, "2022-07-20", "regressed");
    check("also after the deadline", &relapse, "2022-10-03", "regressed");
    check("once a round", &relapse.clone().told(Regressed, 2, "", "2022-07-20"), "2022-07-21", "-");
    check("then reminders go on", &relapse.clone().told(Regressed, 2, "", "2022-07-20"), "2022-08-02", "reminder 60d");
    check(
        "and again in the next round",
        &relapse.clone().told(Regressed, 2, "", "2022-07-20").round(3),
        "2022-07-21",
        "regressed",
    );
    let silent = affected().told(First, 1, "", "2022-07-01").round(3);
    check("told in any earlier round, the one between was silent", &silent, "2022-07-20", "regressed");
    check(
        "what was only held was not told",
        &affected().told(First, 1, "", "2022-07-01").held().round(2),
        "2022-07-20",
        "first",
    );
    let consent_first = relapse.told(Consent, 2, "2022-07-20", "2022-07-20");
    check("a consent notice of this round said nothing of the change back", &consent_first, "2022-07-21", "regressed");
}

#[test]
fn rule_2_first() {
    check("not told in this round", &affected(), "2022-07-01", "first");
    check("a relapse of a case resolved silently", &affected().round(2), "2022-07-20", "first");
    check("told once", &affected().told(First, 1, "", "2022-07-01"), "2022-07-04", "-");
    check("after the deadline too", &affected(), "2022-11-01", "first");
    check(
        "a held one does not count: it would be due",
        &affected().told(First, 1, "", "2022-07-01").held(),
        "2022-07-04",
        "first",
    );
    let consent = case("C1").site("A", Affected, 0).told(Consent, 1, "2022-07-01", "2022-07-01");
    check("this round had a notice, of whatever kind", &consent, "2022-07-04", "-");
    let mixed = affected().site("B", ConsentMissing, 0).site("C", Clear, 5);
    check("an affected site goes before one without consent", &mixed, "2022-07-01", "first");
}

#[test]
fn rule_3_rescheduled() {
    let told = |deadline| affected().told(First, 1, "", "2022-07-01").naming(deadline);
    check("the deadline is the one told", &told("2022-10-01"), "2022-07-04", "-");
    check("it was another", &told("2022-09-01"), "2022-07-04", "rescheduled 1:2022-09-01..2022-10-01");
    check("the day before the deadline", &told("2022-09-01"), "2022-09-30", "rescheduled 1:2022-09-01..2022-10-01");
    check("on or after it that is no news but overdue", &told("2022-09-01"), "2022-10-03", "overdue 2022-10-03");
    let moved = told("2022-09-01").told(Rescheduled, 1, "1:2022-09-01..2022-10-01", "2022-07-04");
    check("once a move", &moved, "2022-07-05", "-");
    let back = told("2022-10-01").told(Rescheduled, 1, "1:2022-10-01..2022-11-01", "2022-07-04").naming("2022-11-01");
    check("a move back is a move of its own", &back, "2022-07-05", "rescheduled 2:2022-11-01..2022-10-01");
    let consent = told("2022-09-01").told(Consent, 1, "2022-07-04", "2022-07-04").naming("2022-10-01");
    check("a consent notice names no deadline", &consent, "2022-07-05", "rescheduled 1:2022-09-01..2022-10-01");
    let only = affected().told(Consent, 1, "2022-07-04", "2022-07-04").naming("2022-09-01");
    check("who was never told a deadline is not told that it moved", &only, "2022-07-05", "-");
    let milestone = told("2022-09-01");
    check(
        "it goes before a reminder of the same day",
        &milestone,
        "2022-08-02",
        "rescheduled 1:2022-09-01..2022-10-01",
    );
    let Decision::Tell(due) = decided(&milestone, "2022-08-02") else { panic!("due") };
    assert_eq!((due.previous_deadline, due.deadline), (Some(day("2022-09-01")), day("2022-10-01")));
}

#[test]
fn rule_4_overdue() {
    let told = || affected().told(First, 1, "", "2022-07-01").told(Reminder, 1, "1d", "2022-09-30");
    check("the last business day before the deadline", &told(), "2022-09-30", "-");
    check("the first one after it: what was sent before does not matter", &told(), "2022-10-03", "overdue 2022-10-03");
    let once = told().told(Overdue, 1, "2022-10-03", "2022-10-03");
    check("six days later", &once, "2022-10-07", "-");
    check("seven days later", &once, "2022-10-10", "overdue 2022-10-10");
    check("a pass that was missed: the next one", &once, "2022-10-12", "overdue 2022-10-12");
    check("any notice since the deadline counts", &affected().told(First, 1, "", "2022-10-05"), "2022-10-11", "-");
    check("seven days after it", &affected().told(First, 1, "", "2022-10-05"), "2022-10-12", "overdue 2022-10-12");
    check("a consent notice too", &told().told(Consent, 1, "2022-10-04", "2022-10-04"), "2022-10-10", "-");
    let weekday = Campaign { deadline: day("2022-10-03"), ..campaign() };
    let on = |d| word(&decide(&told().naming("2022-10-03"), &customer("C1"), &weekday, &calendar(), POLICY, day(d)));
    assert_eq!(on("2022-10-03"), "overdue 2022-10-03", "the deadline itself is past");
    let told_on_it = told().told(Rescheduled, 1, "x", "2022-10-03").naming("2022-10-03");
    let on = |d| word(&decide(&told_on_it, &customer("C1"), &weekday, &calendar(), POLICY, day(d)));
    assert_eq!(on("2022-10-07"), "-", "a notice sent on the deadline counts");
    assert_eq!(on("2022-10-10"), "overdue 2022-10-10", "for overdue_every days");
    let before = |case: Case| case.told(Overdue, 1, "2022-10-03", "2022-10-03").round(2);
    check(
        "another round's notices do not count",
        &before(told()).told(Regressed, 2, "", "2022-10-04"),
        "2022-10-10",
        "-",
    );
    check(
        "nor do they make it later",
        &before(told()).told(Regressed, 2, "", "2022-10-04"),
        "2022-10-11",
        "overdue 2022-10-11",
    );
}

#[test]
fn rule_5_reminder() {
    let told = |on| affected().told(First, 1, "", on);
    check("60 days before is Tuesday 08-02", &told("2022-07-01"), "2022-08-01", "-");
    check("on its day", &told("2022-07-01"), "2022-08-02", "reminder 60d");
    check("a missed day is made up for", &told("2022-07-01"), "2022-08-05", "reminder 60d");
    check("of several only the latest", &told("2022-07-01"), "2022-09-20", "reminder 14d");
    check(
        "the farther ones are overtaken then",
        &told("2022-07-01").told(Reminder, 1, "14d", "2022-09-20"),
        "2022-09-21",
        "-",
    );
    check("7d is Saturday 09-24: told on the Friday before", &told("2022-09-20"), "2022-09-22", "-");
    check("7d on Friday 09-23", &told("2022-09-20"), "2022-09-23", "reminder 7d");
    check("3d on Wednesday 09-28", &told("2022-09-23"), "2022-09-28", "reminder 3d");
    check("1d on Friday 09-30", &told("2022-09-28"), "2022-09-30", "reminder 1d");
    check("a milestone's day that is the last notice's is had", &told("2022-08-02"), "2022-08-03", "-");
    check("and one before it", &told("2022-08-10"), "2022-08-12", "-");
    let sixty = told("2022-07-01").told(Reminder, 1, "60d", "2022-08-02");
    check("each once", &sixty, "2022-08-03", "-");
    check("30d is Thursday 09-01", &sixty, "2022-09-01", "reminder 30d");
    let consent = sixty.told(Consent, 1, "2022-09-01", "2022-09-01");
    check("any notice of this round moves it on", &consent, "2022-09-02", "-");

    let later = Campaign { deadline: day("2022-12-31"), ..campaign() };
    let case = affected()
        .told(First, 1, "", "2022-07-01")
        .told(Reminder, 1, "30d", "2022-09-01")
        .told(Rescheduled, 1, "1:2022-10-01..2022-12-31", "2022-09-05")
        .naming("2022-12-31");
    let on = |d| word(&decide(&case, &customer("C1"), &later, &calendar(), POLICY, day(d)));
    assert_eq!(on("2022-11-01"), "reminder 60d", "60 days before the new deadline");
    assert_eq!(on("2022-12-01"), "reminder 60d", "30d was had in this round; 60d was not");
    let early = Campaign { reminders: vec![crate::domain::campaign::Milestone { days: u32::MAX }], ..campaign() };
    let on = |d| word(&decide(&told("2022-07-01"), &customer("C1"), &early, &calendar(), POLICY, day(d)));
    assert_eq!(on("2022-09-01"), "-", "a milestone before the beginning of time is long past");
}

#[test]
fn rule_6_consent() {
    let missing = || case("C1").site("A", ConsentMissing, 0);
    check("at once", &missing(), "2022-07-01", "consent 2022-07-01");
    let told = missing().told(Consent, 1, "2022-07-01", "2022-07-01");
    check("not the next day", &told, "2022-07-04", "-");
    check("six days later", &told, "2022-07-07", "-");
    check("seven days later", &told, "2022-07-08", "consent 2022-07-08");
    check("other kinds do not count", &missing().told(First, 1, "", "2022-07-01"), "2022-07-04", "consent 2022-07-04");
    check("nor does the deadline", &missing(), "2022-11-01", "consent 2022-11-01");
    check(
        "nor another round",
        &missing().told(Consent, 1, "2022-07-01", "2022-07-01").round(2),
        "2022-07-04",
        "consent 2022-07-04",
    );
    check("clear sites beside it do not matter", &missing().site("B", Clear, 9), "2022-07-01", "consent 2022-07-01");
}

#[test]
fn rule_7_resolved() {
    let clear = |scans| case("C1").site("A", Clear, scans).told(First, 1, "", "2022-07-01");
    check("one scan of two", &clear(1), "2022-07-04", "-");
    check("two of two", &clear(2), "2022-07-04", "resolved");
    check("every site", &clear(2).site("B", Clear, 1), "2022-07-04", "-");
    check("nobody was told", &case("C1").site("A", Clear, 2), "2022-07-04", "silently");
    check("nobody was told in this round", &clear(2).round(2), "2022-07-04", "silently");
    check("what was only held was not told", &clear(2).held(), "2022-07-04", "silently");
    check("resolved is resolved", &clear(9).resolved(), "2022-07-04", "-");
}

#[test]
fn who_is_not_to_be_told_is_not_told() {
    let silent = Customer { notify: false, ..customer("C1") };
    let check = |sentence: &str, case: &Case, expected: &str| {
        let decision = decide(case, &silent, &campaign(), &calendar(), POLICY, day("2022-10-03"));
        assert_eq!(word(&decision), expected, "{sentence}");
    };
    check("affected", &affected(), "-");
    check("affected and told before", &affected().told(First, 1, "", "2022-07-01"), "-");
    check("without consent", &case("C1").site("A", ConsentMissing, 0), "-");
    check("clear, not confirmed", &case("C1").site("A", Clear, 1), "-");
    check("clear: resolved without a word", &case("C1").site("A", Clear, 2), "silently");
    check("even if it was told before", &case("C1").site("A", Clear, 2).told(First, 1, "", "2022-07-01"), "silently");
    check("resolved already", &case("C1").site("A", Clear, 2).resolved(), "-");
}

#[test]
fn who_opted_out_has_its_own_deadline() {
    let opted_out = Customer { opted_out: true, ..customer("C1") };
    let on = |case: &Case, d| decide(case, &opted_out, &campaign(), &calendar(), POLICY, day(d));
    let told = affected().told(First, 1, "", "2022-09-05").naming("2022-12-31");
    assert_eq!(word(&on(&told, "2022-10-03")), "-", "2022-10-01 is not its deadline");
    assert_eq!(word(&on(&told, "2022-11-01")), "reminder 60d");
    assert_eq!(word(&on(&told, "2023-01-02")), "overdue 2023-01-02");
    let Decision::Tell(due) = on(&affected(), "2022-09-05") else { panic!("due") };
    assert_eq!(due.deadline, day("2022-12-31"));
    let later = affected().told(First, 1, "", "2022-09-05");
    assert_eq!(
        word(&on(&later, "2022-09-06")),
        "rescheduled 1:2022-10-01..2022-12-31",
        "opting out moves the customer's deadline"
    );
    let unmoved = Campaign { postponed_to: None, ..campaign() };
    assert_eq!(unmoved.deadline_of(&opted_out), day("2022-10-01"), "there is nothing to opt out to");
}
