//! The daemon as systemd and an operator see it: the real process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Lab, Settings, affected, kigen_command, wait_until};
use kigen::demo::admin_tool::Fault;

/// A daemon under a stand-in for systemd's notify socket.
struct Daemon {
    child: Child,
    socket: UnixDatagram,
    heard: Vec<String>,
    log: std::path::PathBuf,
}

impl Daemon {
    fn start(lab: &Lab, adjust: impl FnOnce(&mut Command)) -> Self {
        let path = lab.path("notify.sock");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let log = lab.path("daemon.log");
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = kigen_command(&lab.config(), &["run"]);
        command.env("NOTIFY_SOCKET", &path).stderr(stderr).stdout(Stdio::null());
        adjust(&mut command);
        Self { child: command.spawn().unwrap(), socket, heard: Vec::new(), log }
    }

    fn listen(&mut self) {
        let mut buffer = [0_u8; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }

    fn wait_for(&mut self, line: &str) {
        let started = Instant::now();
        loop {
            self.listen();
            if self.heard.iter().any(|m| m.lines().any(|l| l.starts_with(line))) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended ({ended:?}) before {line}:\n{}", self.log());
            assert!(started.elapsed() < Duration::from_secs(120), "no {line}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn forget(&mut self) {
        self.listen();
        self.heard.clear();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// SIGTERM, and how long it took.
    fn stop(mut self) -> Duration {
        let started = Instant::now();
        self.signal("TERM");
        let mut status = None;
        wait_until("the daemon ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let took = started.elapsed();
        assert!(status.unwrap().success(), "{:?}\n{}", status, self.log());
        self.listen();
        assert!(self.heard.iter().any(|m| m.contains("STOPPING=1")));
        took
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn every_second() -> Settings {
    Settings { schedule: "scan = \"*/2 * * * * *\"\nnotices = \"1-59/2 * * * * *\"".to_owned(), ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_schedule_it_scans_and_tells_and_stops_when_told() {
    let lab = Lab::with(vec![affected("A1"), affected("A2")], every_second()).await;
    tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |c| {
            c.env("WATCHDOG_USEC", "2000000");
        });
        daemon.wait_for("READY=1");
        daemon.wait_for("STATUS=");
        daemon.wait_for("WATCHDOG=1");
        wait_until("both are told", || lab.told().len() >= 2);
        assert_eq!(lab.mailed(), ["admin@a1.example", "admin@a2.example"]);

        let mut second = kigen_command(&lab.config(), &["run"]).stderr(Stdio::piped()).spawn().unwrap();
        let status = second.wait().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut second.stderr.take().unwrap(), &mut text).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.contains(&daemon.child.id().to_string()), "names the process that holds the state: {text}");

        let took = daemon.stop();
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(lab.told().len(), 2, "each once");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_missed_while_it_was_down_happens_once_at_the_next_start() {
    let mut lab = Lab::start(vec![affected("A1")]).await;
    // A time a minute back from now, every hour: the first start must not run it, for it was not there then.
    tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");
        daemon.stop();
        assert_eq!(lab.world.lock().counters.requests, 0, "nothing was due");

        lab.settings.schedule = "scan = \"*/3 * * * * *\"\nnotices = \"0 0 1 1 *\"".to_owned();
        lab.write_config();
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");
        let log = |d: &Daemon| d.log().matches("run due at").count();
        wait_until("a first run", || daemon.log().contains("1 customers, 1 sites"));
        daemon.stop();

        // Down for several schedule times; a time that comes seldom tells a catch-up from a tick.
        std::thread::sleep(Duration::from_secs(7));
        let before = lab.world.lock().counters.logons.values().map(|l| l.accepted).sum::<u64>();
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");
        wait_until("the missed run", || {
            lab.world.lock().counters.logons.values().map(|l| l.accepted).sum::<u64>() > before
        });
        assert!(log(&daemon) > 0);
        daemon.stop();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_changes_nothing_and_a_good_one_applies_without_a_restart() {
    let mut lab = Lab::start(vec![affected("A1")]).await;
    tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");

        let good = lab.config_text();
        common::write_private(&lab.config(), good.replace("mode = ", "moed = ").as_bytes());
        let output = lab.kigen(&["reload"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("did you mean `mode`"), "the daemon's errors come back: {text}");
        daemon.forget();
        daemon.signal("HUP");
        daemon.wait_for("RELOADING=1");
        daemon.wait_for("READY=1");
        wait_until("the error is logged", || daemon.log().contains("moed"));
        assert!(daemon.log().contains("the running ones stay"), "{}", daemon.log());

        lab.settings.schedule = "scan = \"*/2 * * * * *\"\nnotices = \"0 0 1 1 *\"".to_owned();
        lab.write_config();
        wait_until("the saved file applies by itself", || daemon.log().contains("files read again"));
        wait_until("a scan by the new schedule", || lab.world.lock().counters.requests > 0);
        let text = lab.kigen_ok(&["reload"]);
        assert!(text.contains("1 customers"), "{text}");

        let running = lab.config_text();
        common::write_private(&lab.config(), running.replace("127.0.0.1:0\"", "127.0.0.1:1\"").as_bytes());
        for time in ["read for the first time", "read again: it still is not what runs"] {
            let text = lab.kigen_ok(&["reload"]);
            assert!(text.contains("needs a restart to take effect: web.listen"), "{time}: {text}");
            daemon.forget();
        }
        lab.write_config();
        let text = lab.kigen_ok(&["reload"]);
        assert!(!text.contains("restart"), "back to what runs: {text}");
        // Nobody reads its words meanwhile, and the kernel holds ten of them.
        daemon.forget();
        daemon.stop();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_in_the_middle_of_a_scan_it_stops_in_time() {
    let customers = (0..50).map(|n| affected(&format!("A{n:02}")).with_fault(Fault::Hang)).collect();
    let settings = Settings { scan: "timeout = \"30s\"\ncustomer_timeout = \"3m\"".to_owned(), ..every_second() };
    let lab = Lab::with(customers, settings).await;
    tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");
        wait_until("the scan hangs", || lab.world.lock().counters.in_flight > 5);
        let took = daemon.stop();
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_answer() {
    let mut lab = Lab::with(vec![affected("A1")], every_second()).await;
    // The port must be known: take a free one and give it back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = lab.config_text().replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    common::write_private(&lab.config(), text.as_bytes());
    lab.settings.mode = "live";
    let mut daemon = tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");
        wait_until("told", || lab.told().len() == 1);
        daemon
    });
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await.0, 200);
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "kigen_sites{verdict=\"affected\"} 1",
        "kigen_outbox{state=\"held\"} 0",
        "kigen_notices_total{kind=\"first\",outcome=\"accepted\"} 1",
        "kigen_config_last_reload_successful 1",
        "kigen_build_info{version=",
        "kigen_days_left{campaign=\"exchange-online-basic-auth\"} 30",
        "kigen_scan_last_success_timestamp_seconds ",
        "kigen_scan_duration_seconds ",
        "kigen_scan_requests_total{outcome=\"ok\"}",
        "kigen_pages_total{parser=\"full\"} 0",
        "kigen_microsoft_requests_total{outcome=\"ok\"} 0",
        "kigen_oldest_due_notice_seconds",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("kigen_scan_requests_total{outcome=\"ok\"} 0"), "requests are counted:\n{metrics}");
    assert!(!metrics.contains("kigen_pages_total{parser=\"fast\"} 0"), "pages are counted:\n{metrics}");
    tokio::task::block_in_place(|| {
        daemon.listen();
        daemon.stop();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_does_not_answer_keeps_nothing_from_stopping() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        schedule: "scan = \"0 0 1 1 *\"\nnotices = \"0 0 1 1 *\"\nbounces = \"* * * * * *\"".to_owned(),
        mail: format!(
            "[mail.bounces.imap]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\npassword = {{ env = \"HOME\" }}",
            silent.local_addr().unwrap().port()
        ),
        ..Settings::default()
    };
    let lab = Lab::with(vec![affected("A1")], settings).await;
    tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");
        // Taken, and nothing said.
        let _held = silent.accept().unwrap();
        let took = daemon.stop();
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn undeliverable_mail_is_read_on_schedule() {
    let settings = Settings {
        schedule: format!("{}\nbounces = \"*/2 * * * * *\"", every_second().schedule),
        mail: "envelope_from = \"bounces@vendor.example\"\n[mail.bounces]\nmaildir = \"bounces\"".to_owned(),
        ..Settings::default()
    };
    let lab = Lab::with(vec![affected("A1")], settings).await;
    for part in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(lab.path("bounces").join(part)).unwrap();
    }
    tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |_| {});
        daemon.wait_for("READY=1");
        wait_until("told", || lab.told().len() == 1);
        let report = format!(
            "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example\nTo: {}\nSubject: Undelivered Mail\nMIME-Version: 1.0\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\n\n--b\n\
             Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n\
             Final-Recipient: rfc822; admin@a1.example\nAction: failed\nStatus: 5.1.1\n\
             Diagnostic-Code: smtp; 550 5.1.1 User unknown\n--b--\n",
            lab.told()[0].envelope_from
        );
        std::fs::write(lab.path("bounces/tmp/1.mx"), report).unwrap();
        std::fs::rename(lab.path("bounces/tmp/1.mx"), lab.path("bounces/new/1.mx")).unwrap();
        wait_until("the report is read and marked", || lab.path("bounces/cur/1.mx:2,S").exists());
        wait_until("the run says so", || daemon.log().contains(": 1 dead"));
        assert!(daemon.log().contains("a***@a1.example: the address is dead"), "{}", daemon.log());

        // A mailbox that cannot be read stops nothing else, and the operators are told.
        std::fs::rename(lab.path("bounces"), lab.path("elsewhere")).unwrap();
        let told = |lab: &Lab| lab.alerted().iter().any(|m| m.data.windows(14).any(|w| w == b"bounces_unread"));
        wait_until("the failure is logged", || daemon.log().contains("cannot read the bounce maildir"));
        wait_until("the operators are told", || told(&lab) || daemon.log().contains("cause=bounces_unread"));
        let scans = |daemon: &Daemon| daemon.log().matches("1 customers, 1 sites").count();
        let before = scans(&daemon);
        wait_until("scans go on", || scans(&daemon) > before);
        daemon.stop();
    });
}
