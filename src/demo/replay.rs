//! Replays a campaign on a virtual clock: the real pipeline against the simulated world, day by day.
//!
//! Nothing is short-cut: the files are read, the sites are scanned over HTTP, the notices leave over SMTP, and the state
//! is in a SQLite file that stays behind, with a configuration, so that every command can be tried on it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{NaiveDate, NaiveTime, TimeDelta};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::admin_tool::{AdminTool, SharedWorld};
use super::fleet::{self, DemoFleet, FleetOptions};
use super::mail_server::MailServer;
use super::microsoft::forgetful::Administrators;
use super::microsoft::{LoginService, LoginWorld, SharedLogin};
use super::people::People;
use crate::app;
use crate::clock::ManualClock;
use crate::daemon::Context;
use crate::daemon::deliver::{self, Until};
use crate::daemon::progress::Silent;
use crate::daemon::reload::{self, Live};
use crate::daemon::scan::{ScanRequest, Scanned, scan};
use crate::daemon::{notify, schedule};
use crate::domain::Timestamp;
use crate::domain::calendar::{Calendar, Holidays};
use crate::domain::observation::{Reason, Verdict};
use crate::store::{By, Lead, OutboxAction, OutboxFilter, RunKind};

/// What to replay.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Customers in the fleet.
    pub customers: usize,
    /// Days to replay.
    pub days: u32,
    /// An empty folder for everything.
    pub dir: PathBuf,
}

/// The virtual clock starts on this day: ten weeks before Microsoft began to turn basic authentication off.
pub const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(2022, 7, 25).expect("a day that exists");

/// The campaign's deadline, and that of customers who opted out: the built-in defaults.
const DEADLINE: NaiveDate = NaiveDate::from_ymd_opt(2022, 10, 1).expect("a day that exists");
const POSTPONED_TO: NaiveDate = NaiveDate::from_ymd_opt(2022, 12, 31).expect("a day that exists");

/// The product's application on the simulated Microsoft side, and the vendor's own tenant.
const CLIENT_ID: &str = "5d7f8c3e-demo-4b1a-9c55-2f0e6a1b7d90";
const CLIENT_SECRET: &str = "of-the-demo";
const HOME_TENANT: &str = "exlook.example";

/// One replayed day on which something happened.
#[derive(Debug, Clone)]
pub struct DayLine {
    /// The day.
    pub day: NaiveDate,
    /// Days to the deadline.
    pub days_left: i64,
    /// Affected sites by the newest observations.
    pub affected: u64,
    /// Mails that left.
    pub mails: usize,
    /// First notices over the cap that the operator approved this morning.
    pub approved: usize,
    /// Sites that people switched or switched back in the evening.
    pub changed: usize,
}

/// How it ended, held against what the world knows.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Customers in the fleet.
    pub customers: usize,
    /// Customers with an affected, readable site at the first scan.
    pub affected_at_start: usize,
    /// Of these, those that got a notice.
    pub told: usize,
    /// Customers that were affected and are not any more.
    pub switched: usize,
    /// Customers that switched back at least once.
    pub relapsed: usize,
    /// Customers still affected at the end.
    pub still_affected: usize,
    /// Of these, those that were never told: only those with `notify = no` may be among them.
    pub untold: usize,
    /// Customers that were seen with OAuth and without consent.
    pub without_consent: usize,
    /// Of these, those that have given it since.
    pub consented: usize,
    /// Customers with a site that could not be read at the end.
    pub unreadable: usize,
    /// Mails by kind.
    pub mails: BTreeMap<String, u64>,
    /// Mails to an address that is not a contact of the customer the mail is about. Must be 0.
    pub misdirected: usize,
    /// Mails of the same notice twice. Must be 0.
    pub repeated: usize,
    /// Submit controls pressed besides log-on. Must be 0.
    pub saves: u64,
    /// Observations of the first scan that say what the world knows to be otherwise. Must be 0. A site that was not read in
    /// time (a busy machine) is none: kigen says of it that it does not know.
    pub misread: usize,
}

/// The demo's world and the pipeline that works on it.
pub struct Replay {
    options: ReplayOptions,
    tool: AdminTool,
    mail: MailServer,
    world: SharedWorld,
    login: LoginService,
    administrators: Administrators,
    fleet: DemoFleet,
    people: People,
    clock: Arc<ManualClock>,
    ctx: Context,
    relapsed: BTreeSet<String>,
    /// Ever seen with an affected site, and without consent.
    affected: BTreeSet<String>,
    without_consent: BTreeSet<String>,
    told: BTreeSet<String>,
    affected_at_start: BTreeSet<String>,
    message_ids: BTreeSet<String>,
    summary: Summary,
}

impl Replay {
    /// Builds the world in `options.dir` and opens the pipeline on it.
    ///
    /// # Errors
    /// When the folder cannot be written or loopback gives no port.
    pub async fn start(options: ReplayOptions) -> anyhow::Result<Self> {
        let mut fleet = fleet::build(FleetOptions { customers: options.customers, ..FleetOptions::default() });
        let mails = options.dir.join("mails");
        std::fs::create_dir_all(&mails).with_context(|| format!("cannot make {}", mails.display()))?;
        let people = fleet.people(calendar(), DEADLINE, POSTPONED_TO);
        let mut login = LoginWorld::new(CLIENT_ID, CLIENT_SECRET, HOME_TENANT);
        let administrators = fleet.administrators(&mut login, calendar());
        let login = LoginService::start(SharedLogin::new(login)).await.context("cannot start the simulated login")?;
        let empty = super::admin_tool::World::new(Vec::new(), 0);
        let world = SharedWorld::new(std::mem::replace(&mut fleet.world, empty));
        let tool = AdminTool::start(world.clone()).await.context("cannot start the simulated admin tool")?;
        let mail = MailServer::start(Some(mails)).await.context("cannot start the simulated mail server")?;
        fleet.write_customers(&options.dir.join("customers.csv")).context("cannot write customers.csv")?;
        let secret = options.dir.join("entra-secret");
        write_secret(&secret).with_context(|| format!("cannot write {}", secret.display()))?;
        let config = options.dir.join("config.toml");
        std::fs::write(&config, configuration(&tool, &mail, &login)).context("cannot write config.toml")?;

        let snapshot = reload::load(&config)?;
        let clock = Arc::new(ManualClock::new(calendar().instant(FIRST_DAY, NaiveTime::MIN)));
        let ctx = app::open_with(snapshot, clock.clone()).await?;
        if let Lead::HeldBy(holder) = ctx.store.take_lead("kigen demo", ctx.now()).await? {
            anyhow::bail!("the demo's state is in use ({holder})");
        }
        Ok(Self {
            options,
            tool,
            mail,
            world,
            login,
            administrators,
            fleet,
            people,
            clock,
            ctx,
            relapsed: BTreeSet::new(),
            affected: BTreeSet::new(),
            without_consent: BTreeSet::new(),
            told: BTreeSet::new(),
            affected_at_start: BTreeSet::new(),
            message_ids: BTreeSet::new(),
            summary: Summary::default(),
        })
    }

    /// Where everything lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Replays every day; `line` is given each on which something happened. Ends early when told to stop.
    ///
    /// # Errors
    /// When the pipeline fails, which it should not.
    pub async fn run(&mut self, stop: &CancellationToken, mut line: impl FnMut(&DayLine)) -> anyhow::Result<()> {
        for n in 0..self.options.days {
            if stop.is_cancelled() {
                break;
            }
            let day = FIRST_DAY + TimeDelta::days(i64::from(n));
            let done = self.day(day, stop).await.with_context(|| format!("on {day}"))?;
            if done.changed > 0 || done.mails > 0 || n == 0 {
                line(&done);
            }
        }
        Ok(())
    }

    async fn day(&mut self, day: NaiveDate, stop: &CancellationToken) -> anyhow::Result<DayLine> {
        self.world.lock().new_day();
        if let Some(at) = self.due_on(RunKind::Scan, day) {
            self.clock.set(at);
            self.scan(stop).await?;
        }
        let mut approved = 0;
        let mut mails = Vec::new();
        if let Some(at) = self.due_on(RunKind::Notices, day) {
            self.clock.set(at);
            approved = self.approve(day).await?;
            notify::pass(&self.ctx, Some(at), stop, &Silent).await?;
            let live = Live::new(self.ctx.clone());
            deliver::deliver(live, Until::Drained, true, Arc::new(Notify::new()), stop.clone(), Arc::new(Silent))
                .await?;
            mails = self.read_mails();
        }
        let changed = self.evening(day, &mails);
        Ok(DayLine {
            day,
            days_left: (DEADLINE - day).num_days(),
            affected: self.ctx.store.site_counts().await?.affected,
            mails: mails.len(),
            approved,
            changed,
        })
    }

    /// The schedule's time on that day.
    fn due_on(&self, kind: RunKind, day: NaiveDate) -> Option<Timestamp> {
        let config = &self.ctx.snapshot.config;
        let midnight = config.calendar.instant(day, NaiveTime::MIN) - TimeDelta::seconds(1);
        let at = schedule::cron(&config.schedule, kind).next_after(midnight, config.calendar.zone)?;
        (config.calendar.day(at) == day).then_some(at)
    }

    async fn scan(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let first = self.affected_at_start.is_empty() && self.summary.customers == 0;
        let mut expected = self.world.lock().expected();
        for e in expected.iter_mut().filter(|e| e.verdict == Verdict::Switched) {
            let domain = self.fleet.domain_of(&e.customer).unwrap_or_default();
            if !self.login.world().lock().has_consented(domain) {
                e.verdict = Verdict::ConsentMissing;
            }
        }
        let mut seen = Vec::new();
        let request = ScanRequest { due_at: Some(self.ctx.now()), ..ScanRequest::default() };
        let scanned =
            scan(&self.ctx, &request, stop, &Silent, |observations| seen.extend_from_slice(observations)).await?;
        let Scanned::Ran(_) = scanned else { anyhow::bail!("another scan runs on the demo's state") };
        let of = |verdict| seen.iter().filter(move |o| o.verdict == verdict).map(|o| o.customer.to_string());
        self.affected.extend(of(Verdict::Affected));
        self.without_consent.extend(of(Verdict::ConsentMissing));
        if !first || stop.is_cancelled() {
            return Ok(());
        }
        self.summary.customers = self.fleet.rows.len();
        for e in &expected {
            let same = |o: &&crate::domain::observation::Observation| {
                o.customer.as_str() == e.customer && o.site.as_ref().map(|s| s.as_str()) == e.site.as_deref()
            };
            let late = Verdict::Unreadable(Reason::Timeout);
            let is_late = |o: &&crate::domain::observation::Observation| {
                o.customer.as_str() == e.customer && o.site.is_none() && o.verdict == late
            };
            // Nor is a login service that did not answer in time.
            let is_unsure = |o: &crate::domain::observation::Observation| {
                e.verdict == Verdict::ConsentMissing && o.verdict == Verdict::Switched && o.detail.is_some()
            };
            let wrong = match seen.iter().find(same) {
                Some(o) => o.verdict != e.verdict && o.verdict != late && !is_unsure(o),
                None => !seen.iter().any(|o| is_late(&o)),
            };
            if wrong {
                self.summary.misread += 1;
                tracing::warn!(customer = %e.customer, site = e.site, expected = ?e.verdict, "misread");
            }
        }
        self.affected_at_start =
            seen.iter().filter(|o| o.verdict == Verdict::Affected).map(|o| o.customer.to_string()).collect();
        Ok(())
    }

    /// The operator reads the alert and releases what the cap on first notices kept back.
    async fn approve(&self, day: NaiveDate) -> anyhow::Result<usize> {
        if !self.ctx.snapshot.config.calendar.is_business_day(day) {
            return Ok(0);
        }
        let filter = OutboxFilter { states: vec!["held".to_owned()], ..OutboxFilter::default() };
        let ids: Vec<_> = self.ctx.store.deliveries(&filter).await?.iter().map(|d| d.id).collect();
        let by = By { who: "demo operator".to_owned(), at: self.ctx.now(), day };
        self.ctx.store.act(&ids, OutboxAction::Approve, &by).await?;
        Ok(ids.len())
    }

    /// Whose mails came since the last look; and counts what must not be.
    fn read_mails(&mut self) -> Vec<String> {
        let mut read = Vec::new();
        let operators = &self.ctx.snapshot.config.alerts.to;
        for received in self.mail.take_received() {
            if received.recipients.iter().all(|to| operators.iter().any(|address| address.as_str() == to.as_str())) {
                continue;
            }
            let owners: BTreeSet<Option<&str>> =
                received.recipients.iter().map(|address| self.fleet.customer_of(address)).collect();
            let customer = match owners.iter().collect::<Vec<_>>().as_slice() {
                [Some(customer)] => (*customer).to_owned(),
                _ => {
                    self.summary.misdirected += 1;
                    continue;
                }
            };
            let message_id = message_id(&received.data);
            if !self.message_ids.insert(message_id) {
                self.summary.repeated += 1;
            }
            self.told.insert(customer.clone());
            read.push(customer);
        }
        read
    }

    /// In the evening people do what they decided.
    fn evening(&mut self, day: NaiveDate, mails: &[String]) -> usize {
        let mut by_customer: BTreeMap<String, u32> = BTreeMap::new();
        for customer in mails {
            *by_customer.entry(customer.clone()).or_default() += 1;
        }
        let actions = self.people.day(day, &by_customer);
        for customer in self.administrators.day(day, &actions, &by_customer) {
            if let Some(domain) = self.fleet.domain_of(&customer) {
                self.login.world().lock().consent(domain);
            }
        }
        let mut world = self.world.lock();
        for action in &actions {
            world.set_auth_method(&action.customer, &action.site, action.method);
            if action.method == crate::domain::site::AuthMethod::Basic {
                self.relapsed.insert(action.customer.clone());
            }
        }
        actions.len()
    }

    /// Ends the world, and says how it ended.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn finish(mut self) -> anyhow::Result<Summary> {
        let summary = self.summarise().await?;
        self.end().await;
        Ok(summary)
    }

    /// What the dashboard shows: the state as it stands, at the clock's last instant.
    #[must_use]
    pub fn context(&self) -> Context {
        self.ctx.clone()
    }

    /// Ends the world.
    pub async fn end(self) {
        self.ctx.store.close().await;
        self.mail.shutdown().await;
        self.tool.shutdown().await;
    }

    /// How it went so far.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn summarise(&mut self) -> anyhow::Result<Summary> {
        let sites = self.ctx.store.sites(&[]).await?;
        let of = |wanted: fn(&Verdict) -> bool| -> BTreeSet<String> {
            sites.iter().filter(|r| wanted(&r.seen.verdict)).map(|r| r.seen.customer.to_string()).collect()
        };
        let still: BTreeSet<String> = of(|v| *v == Verdict::Affected);
        let deliveries = self.ctx.store.deliveries(&OutboxFilter::default()).await?;
        for d in deliveries.iter().filter(|d| d.state == crate::domain::delivery::DeliveryState::Sent) {
            *self.summary.mails.entry(d.facts.key.kind.to_string()).or_default() += 1;
        }
        let missing = of(|v| *v == Verdict::ConsentMissing);
        let summary = &mut self.summary;
        summary.affected_at_start = self.affected_at_start.len();
        summary.told = self.affected_at_start.intersection(&self.told).count();
        summary.switched = self.affected.difference(&still).count();
        summary.without_consent = self.without_consent.len();
        summary.consented = self.without_consent.difference(&missing).count();
        summary.relapsed = self.relapsed.len();
        summary.untold = still.difference(&self.told).count();
        summary.still_affected = still.len();
        summary.unreadable = of(|v| matches!(v, Verdict::Unreadable(_))).len();
        summary.saves = self.world.lock().counters.saves;
        Ok(self.summary.clone())
    }
}

fn write_secret(path: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(CLIENT_SECRET.as_bytes())
}

/// The first Message-ID of a message's header; a mail without one counts as the same as every other such.
fn message_id(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let header = text.split("\r\n\r\n").next().unwrap_or_default();
    header.lines().find_map(|line| line.strip_prefix("Message-ID:")).unwrap_or_default().trim().to_owned()
}

/// The calendar of the demo's configuration: the defaults.
fn calendar() -> Calendar {
    Calendar {
        zone: chrono_tz::Asia::Tokyo,
        days: [true, true, true, true, true, false, false],
        opens: NaiveTime::from_hms_opt(9, 0, 0).unwrap_or_default(),
        closes: NaiveTime::from_hms_opt(18, 0, 0),
        holidays: Holidays::Japan,
        closed: Vec::new(),
    }
}

/// The demo's configuration: what an operator would write, but for the loopback hosts and short waits.
fn configuration(tool: &AdminTool, mail: &MailServer, login: &LoginService) -> String {
    format!(
        r#"# Written by `kigen demo`: the simulated world it belongs to is gone, so only commands that read the state work.
mode     = "live"
timezone = "Asia/Tokyo"
state    = "sqlite:kigen.db"

[schedule]
scan    = "0 6 * * Mon,Thu"
notices = "0 10 * * Mon-Fri"

[fleet]
customers = "customers.csv"

[connector]
kind = "exlook"
[connector.exlook]
logon_url = "{logon_url}"

[scan]
concurrency         = 32
requests_per_second = 10000
timeout             = "1s"
customer_timeout    = "20s"
attempts            = 2
max_page            = "1MiB"
allow_private_hosts = true

[microsoft]
realm     = true
consent   = {{ client_id = "{CLIENT_ID}", client_secret = {{ file = "entra-secret" }}, home_tenant = "{HOME_TENANT}" }}
login_url = "{login_url}"

[mail]
from      = "ExLook サポート <support@exlook.example>"
transport = "smtp"
support   = {{ name = "ExLook サポート窓口", email = "support@exlook.example", phone = "03-0000-0000" }}
[mail.smtp]
host = "127.0.0.1"
port = {port}
tls  = "none"
auth = "none"
rate = "100000/s"
connections = 2

[safety]
logon_failures = 20

[alerts]
to = ["ops@exlook.example"]
"#,
        logon_url = tool.logon_url,
        port = mail.port(),
        login_url = login.url,
    )
}
