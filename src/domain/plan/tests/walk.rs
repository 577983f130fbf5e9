//! `kigen plan --until`.

use super::scene::*;
use crate::domain::campaign::Standing::*;
use crate::domain::case::Case;
use crate::domain::plan::{NoticeKind::*, walk};

fn walked(cases: &[Case], ids: &[&str], from: &str, to: &str, allowed: usize) -> Vec<String> {
    walk(cases, &customers(ids), &[campaign()], &calendar(), POLICY, day(from), day(to), allowed)
        .into_iter()
        .map(|(day, p)| {
            let held = if p.held.is_some() { " held" } else { "" };
            format!("{day} {} {} {}", p.customer, p.due.kind, p.due.occasion).trim_end().to_owned() + held
        })
        .collect()
}

#[test]
fn an_affected_customer_is_told_from_the_first_notice_to_the_overdue_ones() {
    let cases = [case("C1").site("A", Affected, 0)];
    assert_eq!(
        walked(&cases, &["C1"], "2022-07-02", "2022-10-14", 20),
        [
            "2022-07-04 C1 first",
            "2022-08-02 C1 reminder 60d",
            "2022-09-01 C1 reminder 30d",
            "2022-09-16 C1 reminder 14d",
            "2022-09-23 C1 reminder 7d",
            "2022-09-28 C1 reminder 3d",
            "2022-09-30 C1 reminder 1d",
            "2022-10-03 C1 overdue 2022-10-03",
            "2022-10-10 C1 overdue 2022-10-10",
        ]
    );
    assert_eq!(cases[0].told, [], "the cases handed in are as they were");
}

#[test]
fn the_cap_holds_first_notices_and_does_not_repeat_them() {
    let ids = ["C1", "C2", "C3"];
    let cases = ids.map(|id| case(id).site("A", Affected, 0));
    assert_eq!(
        walked(&cases, &ids, "2022-07-01", "2022-08-02", 1),
        ["2022-07-01 C1 first", "2022-07-01 C2 first held", "2022-07-01 C3 first held", "2022-08-02 C1 reminder 60d"]
    );
}

#[test]
fn scans_go_on_and_confirm_what_is_clear() {
    let told = case("C1").site("A", Clear, 0).told(First, 1, "", "2022-06-30");
    let untold = case("C2").site("A", Clear, 1);
    let relapse = case("C3").site("A", Affected, 0).told(First, 1, "", "2022-06-01").round(2);
    assert_eq!(
        walked(&[told, untold, relapse], &["C1", "C2", "C3"], "2022-07-01", "2022-07-15", 20),
        ["2022-07-01 C3 regressed", "2022-07-04 C1 resolved"]
    );
}

#[test]
fn a_walk_backwards_is_empty_and_one_to_the_end_of_time_ends() {
    let cases = [case("C1").site("A", ConsentMissing, 0)];
    assert_eq!(walked(&cases, &["C1"], "2022-07-04", "2022-07-01", 20), Vec::<String>::new());
    let told = walked(&cases, &["C1"], "2022-07-04", "9999-12-31", 20);
    assert_eq!(told.len(), 523, "one a week for ten years");
}

#[test]
fn a_fleet_of_a_thousand_over_a_year_is_quick() {
    let ids: Vec<String> = (0..1000).map(|n| format!("C{n:04}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let cases: Vec<Case> = names.iter().map(|id| case(id).site("A", Affected, 0).site("B", Affected, 0)).collect();
    let told =
        walk(&cases, &customers(&names), &[campaign()], &calendar(), POLICY, day("2022-03-01"), day("2023-04-05"), 500);
    // 500 are told all the way, 500 wait for an approval; how long it takes is the test runner's to say.
    assert_eq!(told.iter().filter(|(_, p)| p.held.is_some()).count(), 500);
    assert_eq!(told.iter().filter(|(_, p)| p.due.kind == Reminder).count(), 500 * 6);
    assert_eq!(told.iter().filter(|(_, p)| p.due.kind == Overdue).count(), 500 * 27);
}
