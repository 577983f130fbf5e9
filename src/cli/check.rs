//! `kigen check`: what a start would refuse, what runs when, and what would be sent next. Sends and connects to nothing.

use std::fmt::Write as _;
use std::process::ExitCode;

use chrono::NaiveDate;

use super::{EXIT_CONFIG, Global, output};
use crate::alert::submission;
use crate::config::{Config, StateUrl};
use crate::daemon::reload::{self, LoadError};
use crate::daemon::{Snapshot, schedule};
use crate::domain::campaign::Campaign;
use crate::domain::customer::Language;
use crate::domain::plan;
use crate::mail::dkim::{DkimError, Signer};
use crate::store::{self, RunKind};
use crate::{app, config, fleet};

/// How many runs of each schedule are shown.
const RUNS_SHOWN: usize = 3;

pub(super) async fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let config = config::load(&global.config).map_err(LoadError::from)?;
    let mut errors = Vec::new();
    let templates = reload::load_templates(&config).map_err(|error| errors.extend(template_errors(error))).ok();
    let fleet = match fleet::load(&config.fleet.customers) {
        Ok(fleet) => Some(fleet),
        Err(error) => {
            errors.push(error.to_string());
            None
        }
    };
    let file = config.fleet.customers.display().to_string();
    for row in fleet.iter().flat_map(|f| &f.quarantined) {
        for error in &row.errors {
            let column = error.column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default();
            errors.push(format!("{file}:{}{column}: {}", error.line, error.message));
        }
    }
    // Secrets need not be readable here; a key that is must be good.
    match config.mail.dkim.as_ref().map(Signer::load) {
        None | Some(Ok(_)) => {}
        Some(Err(error @ DkimError::Secret(_))) => eprintln!("note: {:#}; not checked", anyhow::Error::from(error)),
        Some(Err(error)) => errors.push(error.to_string()),
    }
    for error in &errors {
        eprintln!("error: {error}");
    }
    let (Some(fleet), Some(templates)) = (fleet, templates) else { return Ok(ExitCode::from(EXIT_CONFIG)) };
    let snapshot = Snapshot::new(config, fleet, templates);
    output::write(report(&snapshot).await?.as_bytes())?;
    if errors.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} error(s)", errors.len());
    Ok(ExitCode::from(EXIT_CONFIG))
}

fn template_errors(error: LoadError) -> Vec<String> {
    match error {
        LoadError::Templates(errors) => errors.iter().map(ToString::to_string).collect(),
        other => vec![app::describe(&other)],
    }
}

async fn report(snapshot: &Snapshot) -> anyhow::Result<String> {
    use crate::clock::{Clock, SystemClock};
    let now = SystemClock.now();
    let config = &snapshot.config;
    let zone = config.calendar.zone;
    let mut text = String::new();
    writeln!(text, "{}: good", config.path.display())?;
    writeln!(
        text,
        "mode {}, {} customers, {} row(s) with errors",
        config.mode.as_str(),
        snapshot.fleet.members.len(),
        snapshot.fleet.quarantined.len()
    )?;
    if let Some(warning) = submission::warning(&config.mail, Language::En) {
        writeln!(text, "warning: {warning}")?;
    }
    writeln!(text, "\nnext runs ({zone})")?;
    for kind in RunKind::ALL {
        let cron = schedule::cron(&config.schedule, kind);
        let mut times = Vec::new();
        let mut at = now;
        while let Some(next) = cron.next_after(at, zone).filter(|_| times.len() < RUNS_SHOWN) {
            times.push(next.with_timezone(&zone).format("%a %Y-%m-%d %H:%M").to_string());
            at = next;
        }
        let note = match kind {
            RunKind::Bounces if !schedule::is_on(config, kind) => "  (off: [mail.bounces] is not set)",
            _ if schedule::KINDS.contains(&kind) => "",
            _ => "  (not in this version)",
        };
        writeln!(text, "  {:<8} {:<18} {}{note}", kind.as_str(), cron.as_str(), times.join(", "))?;
    }
    writeln!(text, "\ncampaigns")?;
    for campaign in snapshot.campaigns() {
        writeln!(text, "{}", milestones(&campaign, config))?;
    }
    writeln!(text, "\nnotices")?;
    match config.schedule.notices.next_after(now, zone) {
        Some(at) => writeln!(text, "  {}", next_notices(snapshot, config.calendar.day(at)).await?)?,
        None => writeln!(text, "  schedule.notices never happens")?,
    }
    Ok(text)
}

/// The days on which reminders fall, moved to business days.
fn milestones(campaign: &Campaign, config: &Config) -> String {
    let day = |m: &crate::domain::campaign::Milestone| {
        let on = config.calendar.business_day_until(Campaign::milestone_day(campaign.deadline, *m));
        format!("{m} {}", on.map_or_else(|| "never".to_owned(), |d| d.format("%a %Y-%m-%d").to_string()))
    };
    let days: Vec<String> = campaign.reminders.iter().map(day).collect();
    format!("  {} deadline {}; reminders: {}", campaign.id, campaign.deadline.format("%a %Y-%m-%d"), days.join(", "))
}

/// How many notices this configuration would send next, by the stored state.
async fn next_notices(snapshot: &Snapshot, day: NaiveDate) -> anyhow::Result<String> {
    let config = &snapshot.config;
    if let StateUrl::Sqlite(path) = &config.state
        && !path.exists()
    {
        return Ok(format!("no state yet ({}): nothing was scanned, nothing is planned", path.display()));
    }
    let store = store::open(&config.state).await?;
    let cases = store.open_cases().await?;
    let plan = plan::plan(&cases, &snapshot.customers, &snapshot.campaigns(), &config.calendar, snapshot.policy(), day);
    store.close().await;
    let mut kinds = Vec::new();
    for kind in plan::NoticeKind::ALL {
        let count = plan.planned.iter().filter(|p| p.due.kind == kind).count();
        if count > 0 {
            kinds.push(format!("{count} {kind}"));
        }
    }
    let off = config.calendar.day_off(day).map(|off| format!(" ({off})")).unwrap_or_default();
    let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
    Ok(format!("the pass on {day}{off} would send {}: {kinds}, from {} open case(s)", plan.planned.len(), cases.len()))
}
