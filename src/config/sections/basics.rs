//! The keys at the top of the file, `[schedule]`, `[business_hours]`, `[fleet]` and `[retention]`.

use std::path::Path;

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
    let none_before = |config: &&CampaignConfig| calendar.business_day_until(config.campaign.deadline).is_none();
    let silent = campaigns.unwrap_or_default().iter().find(none_before);
    if let Some(CampaignConfig { campaign, .. }) = silent.filter(|_| calendar.days.contains(&true)) {
        let message = format!("leaves no business day in the two years before {} ({})", campaign.deadline, campaign.id);
        s.problem_below(&["business_hours", "closed"], &message, "nothing would ever leave");
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
