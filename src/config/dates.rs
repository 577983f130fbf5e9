//! The forms dates and hours are written in: days, weekdays, windows, closed days, time zones.

use chrono::{NaiveDate, NaiveTime, Weekday};
use chrono_tz::{TZ_VARIANTS, Tz};
use toml::de::DeValue;

use crate::domain::calendar::Closed;

use super::diagnose::did_you_mean;
use super::values::{Bad, choice, quoted, string};

/// A day as the operator wrote it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Day {
    Yearly((u32, u32)),
    Once(NaiveDate),
}

/// `2022-10-01`, a TOML date or a text.
pub(super) fn date(value: &DeValue<'_>) -> Result<NaiveDate, Bad> {
    if let DeValue::Datetime(datetime) = value {
        let (Some(date), None) = (datetime.date, datetime.time) else {
            return Err(Bad::new("must be a day without a time, such as 2022-10-01"));
        };
        return NaiveDate::from_ymd_opt(i32::from(date.year), u32::from(date.month), u32::from(date.day))
            .ok_or_else(|| Bad::new(format!("there is no day {date}")));
    }
    let text = string(value, "a day such as 2022-10-01")?;
    match day(text)? {
        Day::Once(date) => Ok(date),
        Day::Yearly(_) => Err(Bad::new(format!("{} has no year", quoted(text))).hint("such as 2022-10-01")),
    }
}

/// `2022-10-01`, or `12-31` for every year.
fn day(text: &str) -> Result<Day, Bad> {
    let shape = || Bad::new(format!("{} is no day such as \"2022-08-12\" or, every year, \"12-31\"", quoted(text)));
    let none = || Bad::new(format!("there is no day {}", quoted(text)));
    let parts: Vec<&str> = text.split('-').collect();
    let number = |part: &str, digits: usize| -> Result<u32, Bad> {
        let whole = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|_| whole).ok_or_else(shape)
    };
    match parts[..] {
        [year, month, day] => {
            let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
            let year = i32::try_from(year).map_err(|_| shape())?;
            NaiveDate::from_ymd_opt(year, month, day).map(Day::Once).ok_or_else(none)
        }
        [month, day] => {
            let (month, day) = (number(month, 2)?, number(day, 2)?);
            // A leap year, so that 02-29 is a day.
            NaiveDate::from_ymd_opt(2024, month, day).map(|_| Day::Yearly((month, day))).ok_or_else(none)
        }
        _ => Err(shape()),
    }
}

/// `12-29..01-03` every year, `2022-08-11..2022-08-16` once, or one day of either.
pub(super) fn closed(value: &DeValue<'_>) -> Result<Closed, Bad> {
    if value.is_datetime() {
        return date(value).map(|day| Closed::Once { from: day, to: day });
    }
    let text = string(value, "days such as \"12-29..01-03\"")?;
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    match (day(from.trim())?, day(to.trim())?) {
        (Day::Yearly(from), Day::Yearly(to)) => Ok(Closed::Yearly { from, to }),
        (Day::Once(from), Day::Once(to)) if from > to => {
            Err(Bad::new(format!("{} ends before it begins", quoted(text)))
                .hint(format!("did you mean \"{to}..{from}\"?")))
        }
        (Day::Once(from), Day::Once(to)) => Ok(Closed::Once { from, to }),
        _ => Err(Bad::new(format!("{} has a year on one side only", quoted(text)))
            .hint("with years it is closed once, without every year")),
    }
}

/// When customers' mail may leave; no end: at the end of the day.
pub(super) type Hours = (NaiveTime, Option<NaiveTime>);

/// `09:00-18:00`; `24:00` is the end of the day.
pub(super) fn hours(value: &DeValue<'_>) -> Result<Hours, Bad> {
    let text = string(value, "hours such as \"09:00-18:00\"")?;
    let bad = || Bad::new(format!("{} is not hours such as \"09:00-18:00\"", quoted(text)));
    let (opens, closes) = text.split_once('-').ok_or_else(bad)?;
    let (opens, closes) = (minutes(opens).ok_or_else(bad)?, minutes(closes).ok_or_else(bad)?);
    if opens >= closes {
        let why =
            if opens == closes { "is an empty window: nothing would ever leave" } else { "ends before it begins" };
        return Err(Bad::new(format!("{} {why}", quoted(text))).hint("the whole day is \"00:00-24:00\""));
    }
    let time = |minutes: u32| NaiveTime::from_hms_opt(minutes / 60, minutes % 60, 0);
    Ok((time(opens).ok_or_else(bad)?, time(closes)))
}

/// Minutes since midnight of `09:00`, up to `24:00`.
fn minutes(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits =
        |part: &str, least: usize| (least..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour, 1) || !digits(minute, 2) {
        return None;
    }
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && (hour < 24 || (hour, minute) == (24, 0))).then_some(hour * 60 + minute)
}

/// `Mon` to `Sun`.
pub(super) fn weekday(value: &DeValue<'_>) -> Result<Weekday, Bad> {
    choice([
        ("Mon", Weekday::Mon),
        ("Tue", Weekday::Tue),
        ("Wed", Weekday::Wed),
        ("Thu", Weekday::Thu),
        ("Fri", Weekday::Fri),
        ("Sat", Weekday::Sat),
        ("Sun", Weekday::Sun),
    ])(value)
}

/// A zone of the IANA database.
pub(super) fn timezone(value: &DeValue<'_>) -> Result<Tz, Bad> {
    let text = string(value, "a time zone such as \"Asia/Tokyo\"")?;
    if let Ok(zone) = text.parse() {
        return Ok(zone);
    }
    let bad = Bad::new(format!("{} is no time zone of the IANA database", quoted(text)));
    let city = |zone: &Tz| zone.name().rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(text));
    let meant = match text {
        "JST" | "JST-9" | "+09:00" | "UTC+9" | "GMT+9" => Some("Asia/Tokyo"),
        _ => TZ_VARIANTS
            .iter()
            .find(|zone| city(zone))
            .map(|zone| zone.name())
            .or_else(|| did_you_mean(text, TZ_VARIANTS.iter().map(|zone| zone.name()))),
    };
    Err(match meant {
        Some(meant) => bad.hint(format!("did you mean \"{meant}\"?")),
        None => bad.hint("such as \"Asia/Tokyo\""),
    })
}
