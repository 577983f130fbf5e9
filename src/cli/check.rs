//! `kigen check`: what a start would refuse, what runs when, and what would be sent next. Sends and connects to nothing.

use std::fmt::Write as _;
use std::process::ExitCode;

use chrono::NaiveDate;

use super::{EXIT_CONFIG, Global, output};
use crate::config::{Config, ConnectorConfig, StateUrl};
use crate::daemon::bounces::Dead;
use crate::daemon::planning::{PagePlan, Pages, Planner};
use crate::daemon::reload::{self, LoadError};
use crate::daemon::running::{self, Running};
use crate::daemon::{Snapshot, schedule};
use crate::domain::campaign::Campaign;
use crate::domain::case::{Case, CaseState};
use crate::domain::plan::NoticeKind;
use crate::mail::dkim::{DkimError, Signer};
use crate::notice::TemplateError;
use crate::store::{self, RunKind, Store, StoreError};
use crate::{app, config, fleet};

/// How many runs of each schedule are shown.
const RUNS_SHOWN: usize = 3;

pub(super) async fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let config = config::load(&global.config).map_err(LoadError::from)?;
    let mut errors = Vec::new();
    let templates =
        reload::load_templates(&config).map_err(|error| errors.extend(template_errors(error, &config))).ok();
    let fleet = match fleet::roster(&config.fleet.customers, config.state.directory()) {
        Ok(fleet) => Some(fleet),
        Err(error) => {
            errors.push(app::describe(&LoadError::Fleet(error)));
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
        Some(Err(error @ DkimError::Secret(_))) => output::say!("note: {:#}; not checked", anyhow::Error::from(error)),
        Some(Err(error)) => errors.push(error.to_string()),
    }
    for error in &errors {
        output::say!("error: {error}");
    }
    let (Some(fleet), Some(templates)) = (fleet, templates) else { return Ok(ExitCode::from(EXIT_CONFIG)) };
    let snapshot = Snapshot::new(config, fleet, templates);
    output::write(report(&snapshot).await?.as_bytes())?;
    if errors.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::say!("{} error(s)", errors.len());
    Ok(ExitCode::from(EXIT_CONFIG))
}

/// Each error with the operator's own file, where it stands in one.
fn template_errors(error: LoadError, config: &Config) -> Vec<String> {
    let LoadError::Templates(errors) = error else { return vec![app::describe(&error)] };
    let dirs = || config.campaigns.iter().filter_map(|campaign| campaign.templates.as_ref());
    let explain = |error: &TemplateError| {
        let file = dirs().map(|dir| dir.join(&error.template)).find(|path| path.exists());
        match file {
            Some(file) if error.line == 0 => format!("{}: {}", file.display(), error.message),
            Some(file) if error.column == 0 => format!("{}:{}: {}", file.display(), error.line, error.message),
            Some(file) => format!("{}:{}:{}: {}", file.display(), error.line, error.column, error.message),
            None => error.to_string(),
        }
    };
    errors.iter().map(explain).collect()
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
    for warning in app::warnings(config, config.calendar.day(now))
        .into_iter()
        .chain(snapshot.done_in_vain())
        .chain(without_account(snapshot))
    {
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
            RunKind::Bounces if !schedule::is_on(config, kind) => "  (off: [mail.bounces] names no mailbox)",
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
        Some(at) => text.push_str(&next_notices(snapshot, config.calendar.day(at)).await?),
        None => writeln!(text, "  schedule.notices never happens")?,
    }
    Ok(text)
}

/// Customers that the admin tool cannot be asked about. No error: they may be told by hand, and need not be looked at.
fn without_account(snapshot: &Snapshot) -> Option<String> {
    let members = &snapshot.fleet.members;
    let is_exlook = matches!(snapshot.config.connector, ConnectorConfig::Exlook(_));
    let mut without = (0..members.len()).filter(|n| is_exlook && members.at(*n).logon.account.is_empty());
    let first = members.id_at(without.next()?);
    let more = match without.count() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Some(format!("customer {first}{more}: no account to log on with, so the sites cannot be read (inventory_error)"))
}

/// The days on which reminders fall, moved to business days.
fn milestones(campaign: &Campaign, config: &Config) -> String {
    let day = |m: &crate::domain::campaign::Milestone| {
        let on = config.calendar.business_day_until(Campaign::milestone_day(campaign.deadline, *m));
        format!("{m} {}", on.map_or_else(|| "never".to_owned(), |d| d.format("%a %Y-%m-%d").to_string()))
    };
    let days: Vec<String> = campaign.reminders.iter().map(day).collect();
    let begins = campaign.begins.map(|day| format!("begins {}, ", day.format("%a %Y-%m-%d"))).unwrap_or_default();
    let deadline = campaign.deadline.format("%a %Y-%m-%d");
    let over =
        if campaign.overdue_every.is_none() { "; after it nobody is told (overdue_every = \"off\")" } else { "" };
    format!("  {} {begins}deadline {deadline}; reminders: {}{over}", campaign.id, days.join(", "))
}

/// How many notices this configuration would send next, by the stored state, and how many what ran last would.
async fn next_notices(snapshot: &Snapshot, day: NaiveDate) -> anyhow::Result<String> {
    let config = &snapshot.config;
    if let StateUrl::Sqlite(path) = &config.state
        && !path.exists()
    {
        return Ok(format!("  no state yet ({}): nothing was scanned, nothing is planned\n", path.display()));
    }
    let store = match store::open(&config.state).await {
        // The files may be good and the server down: that is no error in them.
        Err(error @ StoreError::Open { .. }) if matches!(config.state, StateUrl::Postgres(_)) => {
            return Ok(format!("  the state cannot be asked: {error}\n"));
        }
        store => store?,
    };
    let text = next_notices_of(snapshot, store.as_ref(), day).await;
    store.close().await;
    text
}

async fn next_notices_of(snapshot: &Snapshot, store: &dyn Store, day: NaiveDate) -> anyhow::Result<String> {
    let config = &snapshot.config;
    let running = running::recall(store).await?;
    let Counted { ours, theirs, open, left } = Counted::of(snapshot, store, running.as_ref(), day).await?;
    let off = config.calendar.day_off(day).map(|off| format!(" ({off})")).unwrap_or_default();
    let mut text = format!("  the pass on {day}{off} would send {ours}, from {open} open case(s)\n");
    if left > 0 {
        writeln!(text, "  {left} open case(s) are left alone: {LEFT_OUT}")?;
    }
    let (Some(running), Some(theirs)) = (running, theirs) else {
        text.push_str("  nothing ran with this state yet, so there is nothing to compare with\n");
        return Ok(text);
    };
    let since = output::short_time(&output::time(running.since, config.calendar.zone));
    writeln!(text, "  as it ran last (since {since}, {}) it would send {theirs}", running.by)?;
    let changes = changes(&running, snapshot);
    if changes.is_empty() {
        text.push_str("  no difference: mode and campaigns are those that ran last\n");
    } else {
        writeln!(text, "\nchanged since it ran last")?;
        for change in changes {
            writeln!(text, "  {change}")?;
        }
        writeln!(text, "  notices of the next pass: {}", theirs.against(&ours))?;
    }
    Ok(text)
}

/// What one walk through the cases counts.
struct Counted {
    ours: Counts,
    /// The same for what ran last, if anything did.
    theirs: Option<Counts>,
    /// Open cases.
    open: usize,
    /// Of these, see [`left_out`].
    left: usize,
}

impl Counted {
    async fn of(
        snapshot: &Snapshot,
        store: &dyn Store,
        running: Option<&Running>,
        day: NaiveDate,
    ) -> anyhow::Result<Self> {
        let dead = Dead::of(&store.dead_contacts().await?);
        let campaigns = snapshot.campaigns();
        let ours = Planner { store, snapshot, campaigns: &campaigns, dead: &dead, day };
        let theirs = running.map(|running| Planner { campaigns: &running.campaigns, ..ours });
        let mut counted = Self {
            ours: Counts::new(snapshot.config.mode.as_str()),
            theirs: running.map(|running| Counts::new(&running.mode)),
            open: 0,
            left: 0,
        };
        let mut pages = Pages::new(store, day);
        while let Some(cases) = pages.next().await? {
            counted.open += cases.iter().filter(|case| case.state == CaseState::Open).count();
            counted.left += left_out(snapshot, &cases);
            let page = ours.page(&cases).await?;
            counted.ours.add(&page);
            if let (Some(counts), Some(theirs)) = (&mut counted.theirs, &theirs) {
                match theirs.campaigns == ours.campaigns {
                    true => counts.add(&page),
                    false => counts.add(&theirs.page(&cases).await?),
                }
            }
        }
        Ok(counted)
    }
}

/// Why [`left_out`] leaves cases out.
pub(super) const LEFT_OUT: &str = "their customers are not in the customers file, or in a row with an error";

/// The open cases of customers that are not told because the customers file does not have them.
pub(super) fn left_out(snapshot: &Snapshot, cases: &[Case]) -> usize {
    let is_out = |case: &&Case| case.state == CaseState::Open && !snapshot.customers.contains_key(&case.customer);
    cases.iter().filter(is_out).count()
}

/// The notices of one pass by kind.
struct Counts {
    by_kind: [(NoticeKind, usize); NoticeKind::ALL.len()],
    /// Nothing of it leaves by itself, and why.
    kept_back: Option<&'static str>,
}

impl Counts {
    fn new(mode: &str) -> Self {
        let kept_back = match mode {
            "dry-run" => Some("dry-run: nothing leaves"),
            "review" => Some("review: each waits for approval"),
            _ => None,
        };
        Self { by_kind: NoticeKind::ALL.map(|kind| (kind, 0)), kept_back }
    }

    fn add(&mut self, page: &PagePlan) {
        for (kind, count) in &mut self.by_kind {
            *count += page.notices().filter(|notice| notice.due.kind == *kind).count();
        }
    }

    fn total(&self) -> usize {
        self.by_kind.iter().map(|(_, n)| n).sum()
    }

    /// `first 0 -> 12, total 3 -> 15`: the kinds that differ.
    fn against(&self, after: &Self) -> String {
        let pairs = self.by_kind.iter().zip(&after.by_kind);
        let mut words: Vec<String> =
            pairs.filter(|(a, b)| a.1 != b.1).map(|((kind, a), (_, b))| format!("{kind} {a} -> {b}")).collect();
        words.push(match (self.total(), after.total()) {
            (a, b) if a == b && words.is_empty() => format!("{a} as before"),
            (a, b) => format!("total {a} -> {b}"),
        });
        words.join(", ")
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<String> =
            self.by_kind.iter().filter(|(_, n)| *n > 0).map(|(kind, n)| format!("{n} {kind}")).collect();
        let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        write!(f, "{}: {kinds}", self.total())?;
        self.kept_back.map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// What differs between what ran last and this configuration, a line each.
fn changes(running: &Running, snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    let mode = snapshot.config.mode.as_str();
    if running.mode != mode {
        lines.push(format!("mode {} -> {mode}", running.mode));
    }
    let after = snapshot.campaigns();
    for new in &after {
        match running.campaigns.iter().find(|old| old.id == new.id) {
            None => lines.push(format!("campaign {} is new: deadline {}", new.id, new.deadline)),
            Some(old) if old == new => {}
            Some(old) => lines.push(format!("campaign {}: {}", new.id, moved(old, new).join(", "))),
        }
    }
    for old in running.campaigns.iter().filter(|old| after.iter().all(|new| new.id != old.id)) {
        lines.push(format!("campaign {} is gone: its cases are left alone", old.id));
    }
    lines
}

fn moved(old: &Campaign, new: &Campaign) -> Vec<String> {
    let day = |d: Option<NaiveDate>| d.map_or_else(|| "none".to_owned(), |d| d.to_string());
    let reminders = |c: &Campaign| c.reminders.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let every = |c: &Campaign| c.overdue_every.map_or_else(|| "off".to_owned(), |days| format!("{days}d"));
    let product = |c: &Campaign| c.product.as_ref().map_or_else(|| "none".to_owned(), |p| p.app_id.clone());
    let plan = |c: &Campaign| {
        let says = |plan: &Option<String>| plan.clone().unwrap_or_else(|| "none".to_owned());
        c.product.as_ref().map_or_else(String::new, |p| format!("{} / {}", says(&p.plan_ja), says(&p.plan_en)))
    };
    let rows = [
        ("affects", old.affects.as_str().to_owned(), new.affects.as_str().to_owned()),
        ("begins", day(old.begins), day(new.begins)),
        ("deadline", old.deadline.to_string(), new.deadline.to_string()),
        ("postponed_to", day(old.postponed_to), day(new.postponed_to)),
        ("final", day(old.last_day), day(new.last_day)),
        ("reminders", reminders(old), reminders(new)),
        ("overdue_every", every(old), every(new)),
        ("consent_every", format!("{}d", old.consent_every), format!("{}d", new.consent_every)),
        ("app_id", product(old), product(new)),
        ("vendor_plan", plan(old), plan(new)),
        ("source", old.source.clone().unwrap_or_default(), new.source.clone().unwrap_or_default()),
    ];
    rows.into_iter().filter(|(_, a, b)| a != b).map(|(key, a, b)| format!("{key} {a} -> {b}")).collect()
}
