//! A cron expression of five fields, or six with the seconds first.
//!
//! croner reads and searches it, with the options tokio-cron-scheduler uses, so that what is previewed is what the ticker
//! does: the day of the month and the day of the week must both match. Two things are ours. croner's answer carries the
//! question's fraction of a second, so questions are cut to whole seconds; and its 3.x walks daylight saving wrongly (a
//! daily job twice around the gap), so it searches civil time as if it were UTC and the zone is applied here.

use chrono::{DateTime, LocalResult, NaiveDateTime, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::domain::Timestamp;

/// Where the search for "does it ever happen" begins: any day will do, so no clock is asked.
const EPOCH: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// A schedule, checked to happen at all.
#[derive(Clone)]
pub struct Cron {
    text: String,
    six_fields: String,
    cron: croner::Cron,
}

impl std::fmt::Debug for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

/// The same schedule, written the same way.
impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.six_fields == other.six_fields
    }
}

impl Eq for Cron {}

impl Cron {
    /// Parses five or six fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    ///
    /// # Errors
    /// What is wrong with the text, or that it never happens (31 February).
    pub fn parse(text: &str) -> Result<Self, String> {
        let six_fields = six_fields(text)?;
        let cron = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Required)
            .dom_and_dow(true)
            .build()
            .parse(&six_fields)
            .map_err(|error| explain(&error))?;
        if cron.find_next_occurrence(&EPOCH, true).is_err() {
            return Err(format!("{text:?} never happens: there is no such day"));
        }
        Ok(Self { text: text.to_owned(), six_fields, cron })
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// With six fields, for the ticker.
    #[must_use]
    pub fn six_fields(&self) -> String {
        self.six_fields.clone()
    }

    /// The first time after `at` (exclusive), whole seconds.
    #[must_use]
    pub fn next_after(&self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        let at = whole_seconds(at);
        let mut civil = at.with_timezone(&zone).naive_local().and_utc();
        // In the hour that is had twice, civil times up to an hour ahead stand for the first pass, which is over.
        loop {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            let next = instant(civil.naive_utc(), zone);
            if next > at {
                return Some(next);
            }
        }
    }

    /// The last time not after `at` (inclusive), whole seconds.
    #[must_use]
    pub fn last_until(&self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        let at = whole_seconds(at);
        let local = at.with_timezone(&zone).naive_local();
        // In the second pass of the hour that is had twice, the whole first pass is past.
        let start = match zone.from_local_datetime(&local) {
            LocalResult::Ambiguous(first, second) if second.to_utc() == at => {
                local + (second.to_utc() - first.to_utc())
            }
            _ => local,
        };
        let mut civil = self.cron.find_previous_occurrence(&start.and_utc(), true).ok()?;
        loop {
            let last = instant(civil.naive_utc(), zone);
            if last <= at {
                return Some(last);
            }
            civil = self.cron.find_previous_occurrence(&civil, false).ok()?;
        }
    }
}

/// The instant of a civil time: of two the earlier, and in a gap the gap's end. So a later civil time never has an earlier
/// instant, a daily run happens once on every day, and one every ten minutes rests in the hour that is had twice.
fn instant(civil: NaiveDateTime, zone: Tz) -> Timestamp {
    if let Some(at) = zone.from_local_datetime(&civil).earliest() {
        return at.to_utc();
    }
    // Search the first second whose civil time is not earlier. No zone is more than a day from UTC, no gap is longer.
    let (mut before, mut after) = (civil.and_utc() - TimeDelta::days(2), civil.and_utc() + TimeDelta::days(2));
    while after - before > TimeDelta::seconds(1) {
        let middle = whole_seconds(before + (after - before) / 2);
        if middle.with_timezone(&zone).naive_local() < civil { before = middle } else { after = middle }
    }
    after
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    at.trunc_subsecs(0)
}

fn six_fields(text: &str) -> Result<String, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('@') {
        return match trimmed {
            "@hourly" => Ok("0 0 * * * *"),
            "@daily" => Ok("0 0 0 * * *"),
            "@weekly" => Ok("0 0 0 * * 0"),
            "@monthly" => Ok("0 0 0 1 * *"),
            "@yearly" | "@annually" => Ok("0 0 0 1 1 *"),
            _ => Err(format!("{text:?} is not one of @hourly, @daily, @weekly, @monthly, @yearly")),
        }
        .map(str::to_owned);
    }
    if let Some(odd) = trimmed.chars().find(|c| !c.is_ascii_alphanumeric() && !" \t*/,-#?+".contains(*c)) {
        return Err(format!("{text:?} holds {odd:?}, which has no place in a schedule"));
    }
    let fields: Vec<&str> = trimmed.split_whitespace().collect();
    match fields.len() {
        5 => Ok(format!("0 {}", fields.join(" "))),
        6 => Ok(fields.join(" ")),
        n => Err(format!("{text:?} has {n} field{}; a schedule has 5, or 6 with seconds first", plural(n))),
    }
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn explain(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError as E;
    match error {
        E::ComponentError(why) | E::InvalidPattern(why) | E::IllegalCharacters(why) => {
            format!("is no schedule: {}", why.trim_start_matches("CronPattern ").trim_end_matches('.'))
        }
        other => format!("is no schedule: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn next_and_last() {
        let tokyo = chrono_tz::Asia::Tokyo;
        let york = chrono_tz::America::New_York;
        for (why, cron, zone, now, last, next) in [
            (
                "five fields, in the zone, the fraction of a second cut",
                "0 6,18 * * *",
                tokyo,
                "2022-09-01T06:00:00.874+09:00",
                "2022-09-01T06:00:00+09:00",
                "2022-09-01T18:00:00+09:00",
            ),
            (
                "six fields, names",
                "30 0 10 * * Mon-Fri",
                tokyo,
                "2022-09-03T00:00:00+09:00",
                "2022-09-02T10:00:30+09:00",
                "2022-09-05T10:00:30+09:00",
            ),
            (
                "day of month and weekday must both match",
                "0 3 13 * Fri",
                tokyo,
                "2022-09-01T00:00:00+09:00",
                "2022-05-13T03:00:00+09:00",
                "2023-01-13T03:00:00+09:00",
            ),
            (
                "a word",
                "@daily",
                tokyo,
                "2022-09-01T12:00:00+09:00",
                "2022-09-01T00:00:00+09:00",
                "2022-09-02T00:00:00+09:00",
            ),
            (
                "the 29th of February is years away",
                "0 0 29 2 *",
                tokyo,
                "2022-09-01T12:00:00+09:00",
                "2020-02-29T00:00:00+09:00",
                "2024-02-29T00:00:00+09:00",
            ),
            (
                "half past two does not exist on that day: three o'clock",
                "30 2 * * *",
                york,
                "2022-03-13T01:00:00-05:00",
                "2022-03-12T02:30:00-05:00",
                "2022-03-13T03:00:00-04:00",
            ),
            (
                "and it is not run again after the gap",
                "30 2 * * *",
                york,
                "2022-03-13T03:00:00-04:00",
                "2022-03-13T03:00:00-04:00",
                "2022-03-14T02:30:00-04:00",
            ),
            (
                "half past one comes twice: the first",
                "30 1 * * *",
                york,
                "2022-11-06T01:10:00-04:00",
                "2022-11-05T01:30:00-04:00",
                "2022-11-06T01:30:00-04:00",
            ),
            (
                "in the second pass of the hour it is past",
                "30 1 * * *",
                york,
                "2022-11-06T01:10:00-05:00",
                "2022-11-06T01:30:00-04:00",
                "2022-11-07T01:30:00-05:00",
            ),
            (
                "every ten minutes rests in the second pass",
                "*/10 * * * *",
                york,
                "2022-11-06T01:15:00-05:00",
                "2022-11-06T01:50:00-04:00",
                "2022-11-06T02:00:00-05:00",
            ),
        ] {
            let cron = Cron::parse(cron).unwrap();
            assert_eq!(cron.last_until(at(now), zone), Some(at(last)), "last: {why}");
            assert_eq!(cron.next_after(at(now), zone), Some(at(next)), "next: {why}");
        }
    }

    #[test]
    fn refuses() {
        for (text, why) in [
            ("", "0 fields"),
            ("0 6 * *", "4 fields"),
            ("0 0 6 * * * 2022", "7 fields"),
            ("0 0 31 2 *", "never happens"),
            ("0 0 30 2 Mon", "never happens"),
            ("61 * * * *", "no schedule"),
            ("0 25 * * *", "no schedule"),
            ("0 6 * * Monday", "no schedule"),
            ("0 6 * * 月", "holds '月'"),
            ("@reboot", "not one of"),
        ] {
            let error = Cron::parse(text).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_ticker_gets_six_fields() {
        assert_eq!(Cron::parse("0 6,18 * * *").unwrap().six_fields(), "0 0 6,18 * * *");
        assert_eq!(Cron::parse("@daily").unwrap().six_fields(), "0 0 0 * * *");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~あ]{0,30}", fields in "([0-9*/,LW#?+-]{1,4} ){4,6}[A-Za-z0-9*]{1,3}") {
            let _ = Cron::parse(&text);
            let _ = Cron::parse(&fields);
        }

        #[test]
        fn next_is_after_and_last_until_it_is_itself(seconds in 1_600_000_000i64..1_800_000_000, minute in 0u8..60, hour in 0u8..24) {
            let at = DateTime::from_timestamp(seconds, 5).unwrap();
            let cron = Cron::parse(&format!("{minute} {hour} * * *")).unwrap();
            for zone in [chrono_tz::Asia::Tokyo, chrono_tz::America::New_York, chrono_tz::Australia::Lord_Howe] {
                let next = cron.next_after(at, zone).unwrap();
                prop_assert!(next > at && next - at <= TimeDelta::hours(26));
                prop_assert_eq!(cron.last_until(next, zone), Some(next));
                prop_assert!(cron.last_until(at, zone).unwrap() <= at);
                prop_assert_eq!(cron.next_after(next - TimeDelta::seconds(1), zone), Some(next));
            }
        }
    }
}
