//! A laboratory: the simulated admin tool and mail server, the files an operator would write, and the pipeline on them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use kigen::app;
use kigen::clock::{Clock, ManualClock, SystemClock};
use kigen::daemon::Context;
use kigen::daemon::deliver::{self, Delivered, Until};
use kigen::daemon::notify::{PassReport, Passed, pass};
use kigen::daemon::progress::Silent;
use kigen::daemon::reload::{self, Live};
use kigen::daemon::scan::{ScanReport, ScanRequest, Scanned, scan};
use kigen::demo::admin_tool::{AdminTool, SharedWorld, World, WorldCustomer, WorldSite};
use kigen::demo::mail_server::{MailServer, Received};
use kigen::domain::observation::Observation;
use kigen::domain::site::{AuthMethod, ServerType};
use kigen::store::Lead;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The operators' address in the laboratory.
pub const OPS: &str = "ops@vendor.example";

pub struct Lab {
    pub dir: TempDir,
    pub tool: AdminTool,
    pub world: SharedWorld,
    pub mail: MailServer,
    /// Lines put into the configuration instead of the defaults below, by section.
    pub settings: Settings,
}

#[derive(Clone)]
pub struct Settings {
    pub mode: &'static str,
    /// The line `state = …`, and what goes with it.
    pub state: String,
    pub schedule: String,
    pub business_hours: String,
    pub campaign: String,
    pub scan: String,
    pub safety: String,
    pub smtp: String,
    pub mail: String,
    pub alerts: String,
}

impl Default for Settings {
    /// Always open, the deadline a month ahead, nothing scheduled.
    fn default() -> Self {
        let deadline = today() + TimeDelta::days(30);
        Self {
            mode: "live",
            state: "state = \"sqlite:kigen.db\"".to_owned(),
            schedule: "scan = \"0 0 1 1 *\"\nnotices = \"0 0 1 1 *\"".to_owned(),
            business_hours: "days = [\"Mon\", \"Tue\", \"Wed\", \"Thu\", \"Fri\", \"Sat\", \"Sun\"]\n\
                             hours = \"00:00-24:00\"\nholidays = \"none\""
                .to_owned(),
            campaign: format!("deadline = {deadline}"),
            scan: "timeout = \"5s\"".to_owned(),
            safety: String::new(),
            smtp: "rate = \"100000/s\"\nconnections = 1\ntimeout = \"10s\"".to_owned(),
            mail: String::new(),
            alerts: String::new(),
        }
    }
}

/// Today in Japan, where the laboratory stands.
pub fn today() -> NaiveDate {
    SystemClock.now().with_timezone(&chrono_tz::Asia::Tokyo).date_naive()
}

/// A customer with one affected site.
pub fn affected(id: &str) -> WorldCustomer {
    WorldCustomer::new(id, vec![WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::Basic)])
}

impl Lab {
    pub async fn start(customers: Vec<WorldCustomer>) -> Self {
        Self::with(customers, Settings::default()).await
    }

    pub async fn with(customers: Vec<WorldCustomer>, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = SharedWorld::new(World::new(customers, 7));
        let tool = AdminTool::start(world.clone()).await.unwrap();
        let mail = MailServer::start(None).await.unwrap();
        let lab = Self { dir, tool, world, mail, settings };
        lab.write_customers(|_, _| String::new());
        lab.write_config();
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// Writes `customers.csv`; `cell(id, column)` may give a cell another text than the usual one.
    pub fn write_customers(&self, cell: impl Fn(&str, &str) -> String) {
        let columns = [
            "customer_id",
            "name",
            "email",
            "cc",
            "account",
            "password",
            "sites",
            "language",
            "opted_out",
            "notify",
            "feature_phone",
            "smartphone",
            "tenant_domain",
        ];
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(columns).unwrap();
        for c in &self.world.lock().customers {
            let usual = |column: &str| match column {
                "customer_id" => c.id.clone(),
                "name" => c.name.clone(),
                "email" => format!("admin@{}.example", c.id.to_lowercase()),
                "account" => c.account.clone(),
                "password" => c.password.clone(),
                "sites" => c.asked.join(";"),
                _ => String::new(),
            };
            let row = columns
                .map(|column| Some(cell(&c.id, column)).filter(|t| !t.is_empty()).unwrap_or_else(|| usual(column)));
            csv.write_record(row).unwrap();
        }
        write_private(&self.path("customers.csv"), &csv.into_inner().unwrap());
    }

    pub fn write_config(&self) {
        write_private(&self.config(), self.config_text().as_bytes());
    }

    pub fn config_text(&self) -> String {
        let s = &self.settings;
        format!(
            r#"
mode = "{mode}"
{state}
[schedule]
{schedule}
[business_hours]
{business_hours}
[fleet]
customers = "customers.csv"
[connector]
kind = "exlook"
[connector.exlook]
logon_url = "{logon_url}"
[scan]
allow_private_hosts = true
requests_per_second = 10000
{scan}
[[campaign]]
id = "exchange-online-basic-auth"
{campaign}
[mail]
from = "ExLook サポート <support@vendor.example>"
support = {{ name = "ExLook サポート窓口", email = "support@vendor.example", phone = "03-0000-0000" }}
{mail}
[mail.smtp]
host = "127.0.0.1"
port = {port}
tls = "none"
auth = "none"
{smtp}
[safety]
{safety}
[alerts]
to = ["{OPS}"]
{alerts}
[web]
listen = "127.0.0.1:0"
"#,
            mode = s.mode,
            state = s.state,
            schedule = s.schedule,
            business_hours = s.business_hours,
            logon_url = self.tool.logon_url,
            scan = s.scan,
            campaign = s.campaign,
            mail = s.mail,
            port = self.mail.port(),
            smtp = s.smtp,
            safety = s.safety,
            alerts = s.alerts,
        )
    }

    /// The pipeline on a clock moved by hand.
    pub async fn open(&self, at: DateTime<Utc>) -> Bench {
        let clock = Arc::new(ManualClock::new(at));
        let snapshot = reload::load(&self.config()).unwrap_or_else(|error| panic!("{}", app::describe(&error)));
        let ctx = app::open_with(snapshot, clock.clone()).await.unwrap();
        assert!(matches!(ctx.store.take_lead("test", at).await.unwrap(), Lead::Taken));
        Bench { clock, ctx }
    }

    /// Runs the program on these files.
    pub fn kigen(&self, args: &[&str]) -> Output {
        kigen_command(&self.config(), args).output().unwrap()
    }

    /// The same, and it must succeed.
    pub fn kigen_ok(&self, args: &[&str]) -> String {
        let output = self.kigen(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kigen {args:?}: {:?}\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The mails to customers so far.
    pub fn told(&self) -> Vec<Received> {
        self.mail.received().into_iter().filter(|m| m.recipients != [OPS]).collect()
    }

    /// The mails to the operators so far.
    pub fn alerted(&self) -> Vec<Received> {
        self.mail.received().into_iter().filter(|m| m.recipients == [OPS]).collect()
    }

    /// The recipients of the mails to customers so far, sorted.
    pub fn mailed(&self) -> Vec<String> {
        let mut all: Vec<String> = self.told().iter().flat_map(|m| m.recipients.clone()).collect();
        all.sort();
        all
    }
}

/// The program with a configuration, not started yet.
pub fn kigen_command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kigen"));
    command.arg("--config").arg(config).args(args).stdin(Stdio::null());
    for name in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "RUNTIME_DIRECTORY", "KIGEN_CONFIG"] {
        command.env_remove(name);
    }
    command
}

pub fn write_private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The pipeline in this process.
pub struct Bench {
    pub clock: Arc<ManualClock>,
    pub ctx: Context,
}

impl Bench {
    pub async fn scan(&self) -> (Vec<Observation>, ScanReport) {
        let mut seen = Vec::new();
        let stop = CancellationToken::new();
        let request = ScanRequest::default();
        let scanned = scan(&self.ctx, &request, &stop, &Silent, |o| seen.extend_from_slice(o)).await.unwrap();
        let Scanned::Ran(report) = scanned else { panic!("another scan runs") };
        (seen, *report)
    }

    pub async fn pass(&self) -> PassReport {
        match pass(&self.ctx, None, &CancellationToken::new(), &Silent).await.unwrap() {
            Passed::Ran(report) => report,
            _ => panic!("another pass runs"),
        }
    }

    pub async fn deliver(&self) -> Delivered {
        let live = Live::new(self.ctx.clone());
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        deliver::deliver(live, Until::Drained, true, wake, stop, Arc::new(Silent)).await.unwrap()
    }

    pub async fn outbox(&self, state: &str) -> u64 {
        let counts = self.ctx.store.outbox_counts().await.unwrap();
        counts.into_iter().find(|(s, _)| *s == state).unwrap().1
    }

    pub fn go(&self, by: TimeDelta) {
        self.clock.set(self.clock.now() + by);
    }
}

/// Waits for a condition, looking often; the limit is only there so that a broken test ends.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
