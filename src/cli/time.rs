//! Times on the command line, as people write them.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::domain::Timestamp;
use crate::domain::calendar::Calendar;

/// A time whose zone may be the configured one, which is not known while the command line is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeArg {
    /// With an offset.
    Instant(Timestamp),
    /// In the configured zone.
    Local(NaiveDateTime),
    /// A day: when its business hours begin.
    Day(NaiveDate),
}

impl FromStr for TimeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let forms = ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%d %H:%M%:z"];
        let at = DateTime::parse_from_rfc3339(text).ok();
        let at = at.or_else(|| forms.iter().find_map(|form| DateTime::parse_from_str(text, form).ok()));
        if let Some(at) = at {
            return Ok(Self::Instant(at.to_utc()));
        }
        let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"];
        if let Some(local) = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()) {
            return Ok(Self::Local(local));
        }
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .map(Self::Day)
            .map_err(|_| "write 2022-09-01, \"2022-09-01 10:00\" or 2022-09-01T10:00:00+09:00".to_owned())
    }
}

impl TimeArg {
    /// The instant it means.
    pub(super) fn at(self, calendar: &Calendar) -> Timestamp {
        match self {
            Self::Instant(at) => at,
            Self::Local(local) => calendar.instant(local.date(), local.time()),
            Self::Day(day) => calendar.instant(day, calendar.opens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_times_in_many_ways() {
        let day = NaiveDate::from_ymd_opt(2022, 9, 1).unwrap();
        let instant = TimeArg::Instant(day.and_hms_opt(1, 0, 0).unwrap().and_utc());
        let local = TimeArg::Local(day.and_hms_opt(10, 0, 0).unwrap());
        let rows = [
            ("a day", "2022-09-01", Some(TimeArg::Day(day))),
            ("with blanks around", " 2022-09-01 ", Some(TimeArg::Day(day))),
            ("a time of the zone", "2022-09-01 10:00", Some(local)),
            ("the same with a T and seconds", "2022-09-01T10:00:00", Some(local)),
            ("with an offset", "2022-09-01T10:00:00+09:00", Some(instant)),
            ("the same without seconds", "2022-09-01T10:00+09:00", Some(instant)),
            ("UTC", "2022-09-01T01:00:00Z", Some(instant)),
            ("no time", "tomorrow", None),
            ("a day that there is not", "2022-09-31", None),
            ("nothing", "", None),
        ];
        for (sentence, text, expected) in rows {
            assert_eq!(text.parse().ok(), expected, "{sentence}");
        }
    }
}
