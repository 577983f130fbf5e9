//! The rules that stop, at their boundaries.

use super::*;

#[test]
fn a_share_is_rounded_up() {
    let check = |share: Share, whole, expected| assert_eq!(share.of(whole), expected, "{share:?} of {whole}");
    check(Share::BasisPoints(500), 1000, 50);
    check(Share::BasisPoints(500), 1001, 51);
    check(Share::BasisPoints(50), 199, 1);
    check(Share::BasisPoints(2000), 0, 0);
    check(Share::BasisPoints(10_000), 7, 7);
    check(Share::Count(5), 2, 5);
}

#[test]
fn first_notices_are_capped_but_never_below_twenty() {
    let check = |share, fleet, expected| assert_eq!(new_notices_allowed(share, fleet), expected, "{fleet}");
    check(Share::BasisPoints(500), 10, 20);
    check(Share::BasisPoints(500), 400, 20);
    check(Share::BasisPoints(500), 401, 21);
    check(Share::BasisPoints(500), 10_000, 500);
    check(Share::Count(3), 10_000, 20);
}

#[test]
fn a_scan_that_finds_too_many_newly_affected_holds() {
    let check = |sentence: &str, newly, before, expected| {
        assert_eq!(newly_affected_trips(Share::BasisPoints(2000), newly, before), expected, "{sentence}");
    };
    check("the first scan knows no before", 500, 0, false);
    check("nobody is new", 0, 1000, false);
    check("just below the share", 199, 1000, false);
    check("the share itself", 200, 1000, true);
    check("all of them", 1000, 1000, true);
    check("two of a small fleet are no mass mistake", 2, 4, false);
    check("three of it are", 3, 4, true);
    check("a fifth of eleven is three", 3, 11, true);
    check("three of sixteen are less than a fifth", 3, 16, false);
}

#[test]
fn a_customers_file_that_was_cut_off_is_seen() {
    let check = |sentence: &str, open, left, expected| assert_eq!(too_many_left(open, left), expected, "{sentence}");
    check("nothing is open", 0, 0, false);
    check("nobody left", 100, 0, false);
    check("one of some was taken out", 10, 1, false);
    check("two were", 10, 2, false);
    check("three of ten", 10, 3, true);
    check("a twentieth of many", 100, 5, false);
    check("more than a twentieth", 100, 6, true);
    check("all of them, few as they are", 1, 1, true);
    check("the whole fleet", 30_000, 30_000, true);
}

#[test]
fn a_refused_logon_waits_a_day_or_a_changed_entry() {
    let at = Timestamp::default();
    let check = |sentence: &str, refused, changed, after: TimeDelta, expected| {
        assert_eq!(logon_allowed(refused, changed, at + after), expected, "{sentence}");
    };
    check("never refused", None, false, TimeDelta::zero(), true);
    check("refused just now", Some(at), false, TimeDelta::zero(), false);
    check("a second short of a day", Some(at), false, TimeDelta::hours(24) - TimeDelta::seconds(1), false);
    check("a day later", Some(at), false, TimeDelta::hours(24), true);
    check("the entry changed", Some(at), true, TimeDelta::seconds(1), true);
    check("the clock went back", Some(at), false, TimeDelta::hours(-30), false);
}

#[test]
fn a_row_of_refusals_stops_a_scan_and_one_good_logon_breaks_it() {
    let check = |sentence: &str, limit, logons: &[bool], expected| {
        let mut streak = RefusalStreak::new(limit);
        logons.iter().for_each(|refused| streak.note(*refused));
        assert_eq!(streak.tripped(), expected, "{sentence}");
    };
    check("nothing yet", 3, &[], false);
    check("one short", 3, &[true, true], false);
    check("the limit", 3, &[true, true, true], true);
    check("a good one between", 3, &[true, true, false, true, true], false);
    check("and again", 3, &[true, false, true, true, true], true);
    check("a limit of 0 does not stop what has not begun", 0, &[], false);
    check("but the first refusal does", 0, &[true], true);
}
