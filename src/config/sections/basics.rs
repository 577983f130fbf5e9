//! The keys at the top of the file, `[schedule]`, `[business_hours]`, `[fleet]` and `[retention]`.

use std::path::Path;

use chrono::{Datelike, NaiveDate, NaiveTime, TimeDelta};
use chrono_tz::Tz;

use crate::config::section::Section;
use crate::config::values::Bad;
use crate::config::{
    CampaignConfig, FleetConfig, Mode, PostgresState, RetentionConfig, ScheduleConfig, StateUrl, dates, values,
};
use crate::domain::calendar::{Calendar, Holidays};

pub(in crate::config) fn mode(s: &mut Section<'_, '_>) -> Mode {
    let words = [Mode::DryRun, Mode::Review, Mode::Live].map(|mode| (mode.as_str(), mode));
    s.or("mode", "dry-run", values::choice(words))
}

pub(in crate::config) fn timezone(s: &mut Section<'_, '_>) -> Tz {
    s.or("timezone", "Asia/Tokyo", dates::timezone)
}

pub(in crate::config) fn state(s: &mut Section<'_, '_>, base: &Path) -> StateUrl {
    let state = s.or("state", "sqlite:kigen.db", values::state(base));
    let password = s.opt("state_password", values::secret(base));
    let directory = s.opt("state_directory", values::path(base));
    match state {
        StateUrl::Sqlite(_) => {
            const HINT: &str = "take it out, or let `state` be a postgres:// address";
            for key in ["state_password", "state_directory"] {
                if s.has(key) {
                    s.problem(key, "says nothing where the state is an SQLite file", HINT);
                }
            }
            state
        }
        StateUrl::Postgres(postgres) => {
            let directory = directory.unwrap_or(postgres.directory);
            StateUrl::Postgres(PostgresState { password, directory, ..postgres })
        }
    }
}

pub(in crate::config) fn schedule(s: &mut Section<'_, '_>) -> ScheduleConfig {
    s.section("schedule", |s| ScheduleConfig {
        scan: s.or("scan", "0 6,18 * * *", values::cron),
        notices: s.or("notices", "0 10 * * Mon-Fri", values::cron),
        digest: s.or("digest", "30 8 * * Mon-Fri", values::cron),
        bounces: s.or("bounces", "*/10 * * * *", values::cron),
    })
}

pub(in crate::config) fn business_hours(s: &mut Section<'_, '_>, zone: Tz) -> Calendar {
    s.section("business_hours", |s| {
        let weekdays = s.list("days", &["Mon", "Tue", "Wed", "Thu", "Fri"], dates::weekday);
        let mut days = [false; 7];
        for day in &weekdays {
            let index = day.num_days_from_monday() as usize;
            if days[index] {
                s.problem("days", format!("{day} stands twice"), "each day once");
            }
            days[index] = true;
        }
        if weekdays.is_empty() && s.sound(&["days"]) {
            s.problem(
                "days",
                "is empty: nothing would ever leave",
                "such as [\"Mon\", \"Tue\", \"Wed\", \"Thu\", \"Fri\"]",
            );
        }
        let (opens, closes) = s.or("hours", "09:00-18:00", dates::hours);
        let holidays = [("jp", Holidays::Japan), ("none", Holidays::None)];
        let holidays = s.or("holidays", "jp", values::choice(holidays));
        let closed = s.list("closed", &[], dates::closed);
        Calendar { zone, days, opens, closes, holidays, closed }
    })
}

/// Milestones fall on business days: closed days that leave none would silence a campaign for ever.
pub(in crate::config) fn some_business_day(
    s: &mut Section<'_, '_>,
    calendar: &Calendar,
    campaigns: Option<&[CampaignConfig]>,
) {
    let is_silent = |config: &&CampaignConfig| {
        let deadline = config.campaign.deadline;
        calendar.business_day_until(deadline).is_none() || calendar.business_day_from(deadline).is_none()
    };
    let silent = campaigns.unwrap_or_default().iter().find(is_silent);
    if let Some(CampaignConfig { campaign, .. }) = silent.filter(|_| calendar.days.contains(&true)) {
        let message =
            format!("leaves no business day in the two years before or after {} ({})", campaign.deadline, campaign.id);
        s.problem_below(&["business_hours", "closed"], &message, "nothing would ever leave");
    }
}

/// So many days with a pass are looked at: schedules repeat by the week or move through the weekdays with the years.
const PASS_DAYS: usize = 60;

/// A pass on another day than a business day sends nothing: a schedule of such days alone would silence everything.
pub(in crate::config) fn some_pass_on_a_business_day(
    s: &mut Section<'_, '_>,
    schedule: &ScheduleConfig,
    calendar: &Calendar,
) {
    let any = NaiveDate::from_ymd_opt(2022, 1, 1).expect("there is such a day");
    let mut before = calendar.instant(any, NaiveTime::MIN);
    for _ in 0..PASS_DAYS {
        let Some(at) = schedule.notices.next_after(before, calendar.zone) else { break };
        let day = calendar.day(at);
        if calendar.days[day.weekday().num_days_from_monday() as usize] {
            return;
        }
        before = calendar.instant(day + TimeDelta::days(1), NaiveTime::MIN) - TimeDelta::seconds(1);
    }
    if calendar.days.contains(&true) {
        let message = format!("{:?} falls on no business day: nothing would ever leave", schedule.notices.as_str());
        s.problem_below(&["schedule", "notices"], &message, "choose days among business_hours.days");
    }
}

pub(in crate::config) fn fleet(s: &mut Section<'_, '_>, base: &Path) -> Option<FleetConfig> {
    s.section("fleet", |s| {
        let customers = s.required("customers", "such as customers = \"customers.csv\" below [fleet]", |value| {
            let path = values::path(base)(value)?;
            match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
                Some("csv" | "toml") => Ok(path),
                _ => Err(Bad::new("must be a .csv or a .toml file")),
            }
        });
        Some(FleetConfig { customers: customers? })
    })
}

pub(in crate::config) fn retention(s: &mut Section<'_, '_>) -> RetentionConfig {
    s.section("retention", |s| RetentionConfig { observations: s.or("observations", "400d", values::time_delta) })
}
