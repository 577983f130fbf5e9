//! The public holidays of Japan (国民の祝日に関する法律 and its special laws), by rule, 1990–2050.
//!
//! Computed, not listed: no table goes stale with a year's end. What a future law adds is not known here; an operator
//! writes such a day into `business_hours.closed`. Outside 1990–2050 no day is a holiday.

use chrono::{Datelike, Days, NaiveDate, Weekday};

/// The years the rules below are right for.
const YEARS: std::ops::RangeInclusive<i32> = 1990..=2050;

/// From this year on a substitute holiday moves past further holidays, and 4 May is a holiday by name (平成17年法律第43号).
const REFORM: i32 = 2007;

/// The holiday's name, if `day` is one. Sundays that are holidays are named too.
#[must_use]
pub fn japan(day: NaiveDate) -> Option<&'static str> {
    if !YEARS.contains(&day.year()) {
        return None;
    }
    named(day)
        .or_else(|| is_substitute(day).then_some("振替休日"))
        .or_else(|| is_sandwiched(day).then_some("国民の休日"))
}

/// Article 3.2: a holiday on a Sunday is made up for on the next day that is no holiday by name; before the reform, on Monday.
fn is_substitute(day: NaiveDate) -> bool {
    let mut before = day.pred_opt();
    while let Some(holiday) = before.filter(|d| named(*d).is_some()) {
        if holiday.weekday() == Weekday::Sun {
            return true;
        }
        if day.year() < REFORM {
            return false;
        }
        before = holiday.pred_opt();
    }
    false
}

/// Article 3.3: a day between two holidays by name is one too; before the reform, unless it was a Sunday.
fn is_sandwiched(day: NaiveDate) -> bool {
    let neighbours = [day.checked_sub_days(Days::new(1)), day.checked_add_days(Days::new(1))];
    let between = neighbours.into_iter().all(|d| d.is_some_and(|d| named(d).is_some()));
    between && (day.year() >= REFORM || day.weekday() != Weekday::Sun)
}

/// Article 2 and the special laws: the holidays that have a name of their own.
fn named(day: NaiveDate) -> Option<&'static str> {
    let (year, month, date) = (day.year(), day.month(), day.day());
    let monday = |nth: u32| day.weekday() == Weekday::Mon && (date - 1) / 7 + 1 == nth;
    match (month, date) {
        (1, 1) => Some("元日"),
        (1, _) if if year < 2000 { date == 15 } else { monday(2) } => Some("成人の日"),
        (2, 11) => Some("建国記念の日"),
        (2, 23) if year >= 2020 => Some("天皇誕生日"),
        (3, _) if date == spring_equinox(year) => Some("春分の日"),
        (4, 29) => Some(if year < REFORM { "みどりの日" } else { "昭和の日" }),
        (5, 1) if year == 2019 => Some("天皇の即位の日"),
        (5, 3) => Some("憲法記念日"),
        (5, 4) if year >= REFORM => Some("みどりの日"),
        (5, 5) => Some("こどもの日"),
        (6, 9) if year == 1993 => Some("結婚の儀"),
        (7, _) => july(year, date, monday(3)),
        (8, _) if Some(date) == mountain_day(year) => Some("山の日"),
        (9, _) if if year < 2003 { date == 15 } else { monday(3) } => Some("敬老の日"),
        (9, _) if date == autumn_equinox(year) => Some("秋分の日"),
        (10, 22) if year == 2019 => Some("即位礼正殿の儀"),
        (10, _) => october(year, date, monday(2)),
        (11, 3) => Some("文化の日"),
        (11, 12) if year == 1990 => Some("即位礼正殿の儀"),
        (11, 23) => Some("勤労感謝の日"),
        (12, 23) if year <= 2018 => Some("天皇誕生日"),
        _ => None,
    }
}

/// 海の日 since 1996; the Olympic years moved it, and スポーツの日 to its side.
fn july(year: i32, date: u32, third_monday: bool) -> Option<&'static str> {
    match (year, date) {
        (2020, 23) | (2021, 22) => Some("海の日"),
        (2020, 24) | (2021, 23) => Some("スポーツの日"),
        (2020 | 2021, _) => None,
        (1996..=2002, 20) => Some("海の日"),
        (2003.., _) if third_monday => Some("海の日"),
        _ => None,
    }
}

/// 山の日 since 2016; moved to the Olympic Games' last weekend.
fn mountain_day(year: i32) -> Option<u32> {
    match year {
        ..2016 => None,
        2020 => Some(10),
        2021 => Some(8),
        _ => Some(11),
    }
}

/// 体育の日, called スポーツの日 since 2020; in the Olympic years it was in July.
fn october(year: i32, date: u32, second_monday: bool) -> Option<&'static str> {
    match year {
        2020 | 2021 => None,
        ..2000 => (date == 10).then_some("体育の日"),
        2000..2020 => second_monday.then_some("体育の日"),
        _ => second_monday.then_some("スポーツの日"),
    }
}

/// The day in March, by the approximation in use for 1980–2099; the official day is announced a year ahead and has
/// always agreed with it.
fn spring_equinox(year: i32) -> u32 {
    equinox(20_843_100, year)
}

/// The day in September, likewise.
fn autumn_equinox(year: i32) -> u32 {
    equinox(23_248_800, year)
}

/// `epoch` is the equinox of 1980 in millionths of a day of the month; the year is 0.242194 days longer than 365.
fn equinox(epoch: i32, year: i32) -> u32 {
    let years = year - 1980;
    u32::try_from((epoch + 242_194 * years) / 1_000_000 - years / 4).expect("the years are 1989 to 2051")
}

#[cfg(test)]
mod tests;
