//! Civil days, business days and the hours in which customers' mail may leave.
//!
//! The only place where a civil date becomes an instant or an instant a civil date.

use chrono::{Datelike, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike, Weekday};
use chrono_tz::Tz;

use super::{Timestamp, holidays};

/// How far business days are searched for: two years of closed days in a row is a configuration error, found by `check`.
const SEARCH_DAYS: i64 = 731;

/// Which public holidays count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holidays {
    /// The public holidays of Japan.
    #[default]
    Japan,
    /// None.
    None,
}

/// Days on which the company is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// From one day of the year to another, every year; may run over New Year. (month, day)
    Yearly {
        /// The first closed day.
        from: (u32, u32),
        /// The last closed day.
        to: (u32, u32),
    },
    /// Once, both ends closed.
    Once {
        /// The first closed day.
        from: NaiveDate,
        /// The last closed day.
        to: NaiveDate,
    },
}

impl Closed {
    /// Whether the company is closed on that day for this reason.
    #[must_use]
    pub fn covers(&self, day: NaiveDate) -> bool {
        match *self {
            Self::Once { from, to } => (from..=to).contains(&day),
            Self::Yearly { from, to } => {
                let md = (day.month(), day.day());
                if from <= to { from <= md && md <= to } else { md >= from || md <= to }
            }
        }
    }
}

/// Why a day is no business day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayOff {
    /// Not one of `business_hours.days`.
    Weekday(Weekday),
    /// A public holiday, by name.
    Holiday(&'static str),
    /// Closed by `business_hours.closed`.
    Closed,
}

impl std::fmt::Display for DayOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Weekday(day) => write!(f, "{day} is not one of business_hours.days"),
            Self::Holiday(name) => write!(f, "a public holiday ({name})"),
            Self::Closed => write!(f, "closed by business_hours.closed"),
        }
    }
}

/// The vendor's calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// Civil days are days in this zone.
    pub zone: Tz,
    /// The days of the week that are worked, Monday first.
    pub days: [bool; 7],
    /// When the window opens.
    pub opens: NaiveTime,
    /// When it closes, exclusive; `None` = at the end of the day (written `24:00`).
    pub closes: Option<NaiveTime>,
    /// Which public holidays count.
    pub holidays: Holidays,
    /// The company's own closed days.
    pub closed: Vec<Closed>,
}

impl Calendar {
    /// The civil day of an instant.
    #[must_use]
    pub fn day(&self, at: Timestamp) -> NaiveDate {
        at.with_timezone(&self.zone).date_naive()
    }

    /// Why `day` is no business day; `None` if it is one.
    #[must_use]
    pub fn day_off(&self, day: NaiveDate) -> Option<DayOff> {
        let weekday = day.weekday();
        if !self.days[weekday.num_days_from_monday() as usize] {
            return Some(DayOff::Weekday(weekday));
        }
        if self.holidays == Holidays::Japan
            && let Some(name) = holidays::japan(day)
        {
            return Some(DayOff::Holiday(name));
        }
        self.closed.iter().any(|c| c.covers(day)).then_some(DayOff::Closed)
    }

    /// Whether `day` is a business day.
    #[must_use]
    pub fn is_business_day(&self, day: NaiveDate) -> bool {
        self.day_off(day).is_none()
    }

    /// The last business day not later than `day`; `None` if there is none within two years.
    #[must_use]
    pub fn business_day_until(&self, day: NaiveDate) -> Option<NaiveDate> {
        (0..SEARCH_DAYS).map(|n| day - TimeDelta::days(n)).find(|d| self.is_business_day(*d))
    }

    /// The first business day not earlier than `day`; `None` if there is none within two years.
    #[must_use]
    pub fn business_day_from(&self, day: NaiveDate) -> Option<NaiveDate> {
        (0..SEARCH_DAYS).map(|n| day + TimeDelta::days(n)).find(|d| self.is_business_day(*d))
    }

    /// Whether customers' mail may leave at this instant.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        let local = at.with_timezone(&self.zone);
        self.is_business_day(local.date_naive())
            && local.time() >= self.opens
            && self.closes.is_none_or(|closes| local.time() < closes)
    }

    /// The first instant not before `at` at which customers' mail may leave; `None` if there is none within two years.
    /// [`is_open`](Self::is_open) holds at it.
    #[must_use]
    pub fn opens_at(&self, at: Timestamp) -> Option<Timestamp> {
        if self.is_open(at) {
            return Some(at);
        }
        let today = self.day(at);
        (0..SEARCH_DAYS)
            .map(|n| today + TimeDelta::days(n))
            .filter(|day| self.is_business_day(*day))
            .find_map(|day| self.opens_on(day, at))
    }

    /// The first instant of `day` not before `at` inside the window. A change of the clocks can swallow a whole window or
    /// open it twice, so those days are looked through by the minute.
    fn opens_on(&self, day: NaiveDate, at: Timestamp) -> Option<Timestamp> {
        let midnight = self.instant(day, NaiveTime::MIN);
        let next = self.instant(day + TimeDelta::days(1), NaiveTime::MIN);
        if next - midnight == TimeDelta::days(1) {
            let opening = self.instant(day, self.opens);
            return (opening >= at && self.is_open(opening)).then_some(opening);
        }
        std::iter::successors(Some(midnight), |t| Some(*t + TimeDelta::minutes(1)))
            .take_while(|t| *t < next)
            .find(|t| *t >= at && self.is_open(*t))
    }

    /// The instant of a civil date and time. In the gap of a change to summer time the first instant after it; of two, the earlier.
    #[must_use]
    pub fn instant(&self, day: NaiveDate, time: NaiveTime) -> Timestamp {
        let local = day.and_time(time);
        let minute = local - TimeDelta::seconds(i64::from(time.second()));
        // Clocks change on whole minutes. No gap is longer than a day (Samoa skipped one in 2011), so two days are enough.
        std::iter::once(local)
            .chain((1..2 * 24 * 60).map(|n| minute + TimeDelta::minutes(n)))
            .find_map(|local| self.zone.from_local_datetime(&local).earliest())
            .map_or_else(|| local.and_utc(), |at| at.to_utc())
    }
}

#[cfg(test)]
mod tests;
