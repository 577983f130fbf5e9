//! Business days, windows, and clocks that change.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Weekday};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::{Calendar, Closed, DayOff, Holidays, Timestamp};

const WORK_DAYS: [bool; 7] = [true, true, true, true, true, false, false];
const EVERY_DAY: [bool; 7] = [true; 7];

fn at(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn time(text: &str) -> NaiveTime {
    NaiveTime::parse_from_str(text, "%H:%M").unwrap()
}

/// A calendar with a window such as `09:00-18:00`.
fn calendar(zone: Tz, hours: &str, days: [bool; 7]) -> Calendar {
    let (opens, closes) = hours.split_once('-').unwrap();
    Calendar {
        zone,
        days,
        opens: time(opens),
        closes: (closes != "24:00").then(|| time(closes)),
        holidays: if zone == Tz::Asia__Tokyo { Holidays::Japan } else { Holidays::None },
        closed: Vec::new(),
    }
}

fn tokyo() -> Calendar {
    let mut calendar = calendar(Tz::Asia__Tokyo, "09:00-18:00", WORK_DAYS);
    calendar.closed = vec![
        Closed::Yearly { from: (12, 29), to: (1, 3) },
        Closed::Once { from: day("2022-08-11"), to: day("2022-08-16") },
    ];
    calendar
}

#[test]
fn the_window_is_open_from_its_first_minute_to_before_its_last() {
    let check = |when: &str, open: bool, why: &str| assert_eq!(tokyo().is_open(at(when)), open, "{when}: {why}");
    check("2022-09-01T08:59:59+09:00", false, "a second before it opens");
    check("2022-09-01T09:00:00+09:00", true, "the opening minute belongs to it");
    check("2022-09-01T17:59:59+09:00", true, "a second before it closes");
    check("2022-09-01T18:00:00+09:00", false, "the closing minute does not");
    check("2022-09-01T00:00:00Z", true, "the same instant in UTC is nine in Tokyo");
    check("2022-09-03T12:00:00+09:00", false, "a Saturday");
    check("2022-09-19T12:00:00+09:00", false, "敬老の日");
    check("2022-08-12T12:00:00+09:00", false, "closed once, in 2022");
    check("2024-08-13T12:00:00+09:00", true, "not closed in another year");
    check("2022-12-29T12:00:00+09:00", false, "the first closed day of the year's end");
    check("2022-12-28T12:00:00+09:00", true, "the day before it");
    check("2023-01-03T12:00:00+09:00", false, "the last closed day, in the new year");
    check("2023-01-04T12:00:00+09:00", true, "the day after it");
}

#[test]
fn a_window_to_24_00_closes_with_the_day() {
    let late = calendar(Tz::Asia__Tokyo, "20:00-24:00", WORK_DAYS);
    assert!(late.is_open(at("2022-09-01T23:59:59+09:00")));
    assert!(!late.is_open(at("2022-09-02T00:00:00+09:00")), "the next day's window has not opened");
    assert_eq!(late.opens_at(at("2022-09-02T00:00:00+09:00")), Some(at("2022-09-02T20:00:00+09:00")));
    let whole = calendar(Tz::Asia__Tokyo, "00:00-24:00", WORK_DAYS);
    assert!(whole.is_open(at("2022-09-02T23:59:59.999+09:00")), "a Friday's last millisecond");
    assert!(!whole.is_open(at("2022-09-03T00:00:00+09:00")), "Saturday");
    assert_eq!(whole.opens_at(at("2022-09-03T00:00:00+09:00")), Some(at("2022-09-05T00:00:00+09:00")));
}

#[test]
fn every_day_off_says_why() {
    let check = |date: &str, off: Option<DayOff>| assert_eq!(tokyo().day_off(day(date)), off, "{date}");
    check("2022-09-01", None);
    check("2022-09-04", Some(DayOff::Weekday(Weekday::Sun)));
    check("2022-09-23", Some(DayOff::Holiday("秋分の日")));
    check("2022-12-30", Some(DayOff::Closed));
    check("2022-01-01", Some(DayOff::Weekday(Weekday::Sat)));
    assert_eq!(DayOff::Closed.to_string(), "closed by business_hours.closed");
    assert_eq!(DayOff::Holiday("元日").to_string(), "a public holiday (元日)");
}

#[test]
fn closed_days_run_over_new_year() {
    let winter = Closed::Yearly { from: (12, 29), to: (1, 3) };
    let summer = Closed::Yearly { from: (8, 13), to: (8, 15) };
    for (date, in_winter, in_summer) in [
        ("2022-12-28", false, false),
        ("2022-12-29", true, false),
        ("2022-12-31", true, false),
        ("2023-01-01", true, false),
        ("2023-01-03", true, false),
        ("2023-01-04", false, false),
        ("2023-08-12", false, false),
        ("2023-08-13", false, true),
        ("2023-08-15", false, true),
        ("2023-08-16", false, false),
    ] {
        assert_eq!(winter.covers(day(date)), in_winter, "{date}");
        assert_eq!(summer.covers(day(date)), in_summer, "{date}");
    }
    let one_day = Closed::Yearly { from: (2, 29), to: (2, 29) };
    assert!(one_day.covers(day("2024-02-29")) && !one_day.covers(day("2023-02-28")));
}

#[test]
fn business_days_are_found_in_both_directions() {
    let calendar = tokyo();
    for (from, until_it, from_it, why) in [
        ("2022-09-01", "2022-09-01", "2022-09-01", "a business day is its own"),
        ("2022-09-03", "2022-09-02", "2022-09-05", "a Saturday"),
        ("2023-01-01", "2022-12-28", "2023-01-04", "the year's end"),
        ("2022-08-14", "2022-08-10", "2022-08-17", "closed once"),
        ("2022-05-04", "2022-05-02", "2022-05-06", "three holidays in a row"),
        ("2026-09-22", "2026-09-18", "2026-09-24", "敬老の日, 国民の休日, 秋分の日 and a weekend"),
    ] {
        assert_eq!(calendar.business_day_until(day(from)), Some(day(until_it)), "{from}: {why}");
        assert_eq!(calendar.business_day_from(day(from)), Some(day(from_it)), "{from}: {why}");
    }
}

#[test]
fn a_calendar_without_business_days_has_none() {
    let mut never = tokyo();
    never.closed.push(Closed::Yearly { from: (1, 1), to: (12, 31) });
    assert_eq!(never.business_day_until(day("2022-09-01")), None);
    assert_eq!(never.business_day_from(day("2022-09-01")), None);
    assert_eq!(never.opens_at(at("2022-09-01T12:00:00+09:00")), None);
}

#[test]
fn the_next_opening() {
    let check =
        |when: &str, opens: &str, why: &str| assert_eq!(tokyo().opens_at(at(when)), Some(at(opens)), "{when}: {why}");
    check("2022-09-01T12:34:56+09:00", "2022-09-01T12:34:56+09:00", "open: at once");
    check("2022-09-01T06:00:00+09:00", "2022-09-01T09:00:00+09:00", "later today");
    check("2022-09-01T18:00:00+09:00", "2022-09-02T09:00:00+09:00", "closed just now: tomorrow");
    check("2022-09-02T18:00:00+09:00", "2022-09-05T09:00:00+09:00", "after a Friday: Monday");
    check("2022-09-16T20:00:00+09:00", "2022-09-20T09:00:00+09:00", "over a weekend and a holiday");
    check("2022-12-28T18:00:00+09:00", "2023-01-04T09:00:00+09:00", "over the year's end");
}

#[test]
fn the_gap_of_summer_time_in_new_york_and_berlin() {
    for (zone, date, after) in [
        (Tz::America__New_York, "2022-03-13", "2022-03-13T03:00:00-04:00"),
        (Tz::Europe__Berlin, "2022-03-27", "2022-03-27T03:00:00+02:00"),
    ] {
        let plain = calendar(zone, "09:00-18:00", EVERY_DAY);
        for gone in ["02:00", "02:10", "02:30", "02:59"] {
            assert_eq!(
                plain.instant(day(date), time(gone)),
                at(after),
                "{zone} {gone}: the first instant after the gap"
            );
        }
        let opening = calendar(zone, "02:30-12:00", EVERY_DAY);
        let midnight = opening.instant(day(date), NaiveTime::MIN);
        assert_eq!(opening.opens_at(midnight), Some(at(after)), "{zone}: opens in the gap, so after it");
        let swallowed = calendar(zone, "02:00-02:45", EVERY_DAY);
        let next = swallowed.instant(day(date).succ_opt().unwrap(), time("02:00"));
        assert_eq!(swallowed.opens_at(midnight), Some(next), "{zone}: the window does not exist that day");
    }
}

#[test]
fn the_hour_that_comes_twice_in_new_york_and_berlin() {
    let new_york = calendar(Tz::America__New_York, "01:00-01:30", EVERY_DAY);
    assert_eq!(
        new_york.instant(day("2022-11-06"), time("01:15")),
        at("2022-11-06T01:15:00-04:00"),
        "of two the earlier"
    );
    let check = |when: &str, opens: &str| assert_eq!(new_york.opens_at(at(when)), Some(at(opens)), "{when}");
    check("2022-11-06T00:00:00-04:00", "2022-11-06T01:00:00-04:00");
    check("2022-11-06T01:45:00-04:00", "2022-11-06T01:00:00-05:00");
    check("2022-11-06T01:30:00-05:00", "2022-11-07T01:00:00-05:00");
    let berlin = calendar(Tz::Europe__Berlin, "09:00-18:00", WORK_DAYS);
    assert_eq!(berlin.instant(day("2022-10-30"), time("02:30")), at("2022-10-30T02:30:00+02:00"));
    assert_eq!(
        berlin.opens_at(at("2022-10-28T18:00:00+02:00")),
        Some(at("2022-10-31T09:00:00+01:00")),
        "nine is nine, in winter time too"
    );
}

#[test]
fn the_day_samoa_skipped() {
    let samoa = calendar(Tz::Pacific__Apia, "09:00-18:00", WORK_DAYS);
    let saturday = at("2011-12-31T00:00:00+14:00");
    assert_eq!(
        samoa.instant(day("2011-12-30"), time("09:00")),
        saturday,
        "Friday never was: the first instant after it"
    );
    assert_eq!(samoa.day(saturday - TimeDelta::seconds(1)), day("2011-12-29"));
    assert_eq!(
        samoa.opens_at(at("2011-12-29T18:00:00-10:00")),
        Some(at("2012-01-02T09:00:00+14:00")),
        "nothing opens on a Friday that never was"
    );
}

#[test]
fn the_civil_day_is_the_zones() {
    assert_eq!(tokyo().day(at("2022-09-30T15:00:00Z")), day("2022-10-01"));
    assert_eq!(tokyo().day(at("2022-09-30T14:59:59Z")), day("2022-09-30"));
    assert_eq!(
        calendar(Tz::America__New_York, "09:00-18:00", WORK_DAYS).day(at("2022-10-01T03:00:00Z")),
        day("2022-09-30")
    );
}

proptest! {
    /// What `opens_at` returns is open, not earlier than asked, and (by the quarter-hour) nothing before it is open.
    #[test]
    fn opens_at_is_the_first_open_instant(
        zone in prop::sample::select(vec![Tz::Asia__Tokyo, Tz::America__New_York, Tz::Europe__Berlin, Tz::Pacific__Apia, Tz::Australia__Lord_Howe, Tz::America__Sao_Paulo]),
        start in 1_300_000_000_i64..1_700_000_000,
        opens in 0_u32..96,
        length in 1_u32..96,
        days in prop::array::uniform7(prop::bool::weighted(0.7)),
    ) {
        let mut subject = calendar(zone, "00:00-24:00", days);
        subject.opens = NaiveTime::from_num_seconds_from_midnight_opt(opens * 900, 0).unwrap();
        let closes = opens + length;
        subject.closes = (closes < 96).then(|| NaiveTime::from_num_seconds_from_midnight_opt(closes * 900, 0).unwrap());
        let start = DateTime::from_timestamp(start - start % 900, 0).unwrap();
        match subject.opens_at(start) {
            Some(open) => {
                prop_assert!(open >= start && subject.is_open(open));
                let quarters = (open - start).num_minutes().min(14 * 24 * 60) / 15;
                for n in 0..quarters {
                    let earlier = start + TimeDelta::minutes(15 * n);
                    prop_assert!(!subject.is_open(earlier), "{earlier} is open, before {open}");
                }
            }
            None => prop_assert!(days.iter().all(|d| !d)),
        }
    }
}
