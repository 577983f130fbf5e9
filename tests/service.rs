//! What an operator who leaves the service alone relies on: files saved in every way, clocks that are set, backups taken
//! while it runs, units and rules that are right.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod common;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Lab, Settings, affected, kigen_command, wait_until, write_private};
use kigen::metrics::{Levels, Metrics};

struct Daemon {
    child: Child,
    log: PathBuf,
    socket: UnixDatagram,
}

impl Daemon {
    /// Starts and waits until it is ready.
    fn start(lab: &Lab, adjust: impl FnOnce(&mut Command)) -> Self {
        let (log, notify) = (lab.path("daemon.log"), lab.path("notify.sock"));
        let _ = std::fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = kigen_command(&lab.config(), &["run"]);
        command.env("NOTIFY_SOCKET", &notify).stderr(stderr).stdout(Stdio::null());
        adjust(&mut command);
        let daemon = Self { child: command.spawn().unwrap(), log, socket };
        wait_until("the daemon is ready", || daemon.heard().iter().any(|m| m.contains("READY=1")));
        daemon
    }

    /// The datagrams since the last call.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0_u8; 4096];
        let next = || self.socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        std::iter::from_fn(next).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_may_be_saved_in_any_way() {
    let lab = Lab::start(vec![affected("A1"), affected("A2")]).await;
    tokio::task::block_in_place(|| {
        let daemon = Daemon::start(&lab, |_| {});
        let config = lab.config();
        let text = |days: u32| lab.config_text().replace("[safety]", &format!("[safety]\nconfirm_resolved = {days}"));
        let reads = "files read again";

        // An editor writes another file and renames it.
        let before = daemon.count(reads);
        write_private(&lab.path("config.toml~"), text(3).as_bytes());
        std::fs::rename(lab.path("config.toml~"), &config).unwrap();
        wait_until("a renamed file is read", || daemon.count(reads) > before);

        // Another moves the old one away first: for a moment there is none.
        let before = daemon.count(reads);
        std::fs::rename(&config, lab.path("config.toml.bak")).unwrap();
        write_private(&config, text(4).as_bytes());
        wait_until("a file that was gone is read", || daemon.count(reads) > before);

        // Ten saves a second for three seconds, half of them cut short in the middle of a write.
        let errors = daemon.count("the running ones stay");
        let before = daemon.count(reads);
        let until = Instant::now() + Duration::from_secs(3);
        let mut saves = 0;
        while Instant::now() < until {
            let text = text(2 + saves % 5);
            let whole = if saves % 2 == 0 { text.len() } else { text.len() / 2 };
            write_private(&config, &text.as_bytes()[..whole]);
            saves += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        write_private(&config, text(9).as_bytes());
        wait_until("the last save is read", || daemon.count(reads) > before);
        assert_eq!(daemon.count("the running ones stay"), errors, "no half of a file was read:\n{}", daemon.log());
        assert!(daemon.count(reads) - before <= 2, "saves that follow each other are one:\n{}", daemon.log());

        // Every word to systemd about a reload stands with its instant, and ready follows.
        daemon.heard();
        lab.kigen_ok(&["reload"]);
        let heard = daemon.heard();
        let start = heard.iter().position(|m| m.contains("RELOADING=1")).unwrap();
        assert!(heard[start].lines().any(|l| l.starts_with("MONOTONIC_USEC=")), "{heard:?}");
        assert!(heard[start..].iter().any(|m| m.contains("READY=1")), "{heard:?}");

        // A bad edit is refused over the socket too, even though the command cannot read the files itself.
        write_private(&config, text(2).replace("mode = ", "moed = ").as_bytes());
        let output = lab.kigen(&["reload"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("moed"), "{output:?}");
        daemon.signal("TERM");
    });
}

/// `faketime` keeps its library where the machine's libraries are.
fn faketime() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = found.map(|e| e.path().join("faketime/libfaketimeMT.so.1")).find(|p| p.exists());
    library.expect("the package faketime is installed (tests/run does it)")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_stops_nothing_and_repeats_nothing() {
    let schedule = "scan = \"*/2 * * * * *\"\nnotices = \"1-59/2 * * * * *\"".to_owned();
    let lab = Lab::with(vec![affected("A1")], Settings { schedule, ..Settings::default() }).await;
    tokio::task::block_in_place(|| {
        let offset = lab.path("offset");
        std::fs::write(&offset, "+0").unwrap();
        let daemon = Daemon::start(&lab, |command| {
            command
                .env("LD_PRELOAD", faketime())
                .env("FAKETIME_TIMESTAMP_FILE", &offset)
                .envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")])
                .env("WATCHDOG_USEC", "2000000");
        });
        wait_until("told", || lab.told().len() == 1);
        let scans = || lab.world.lock().counters.logons.values().map(|l| l.accepted).sum::<u64>();
        for (n, jump) in ["+1h", "+0", "+1d", "+0", "-1h", "-1d", "+0"].into_iter().enumerate() {
            std::fs::write(lab.path("offset.new"), jump).unwrap();
            std::fs::rename(lab.path("offset.new"), &offset).unwrap();
            wait_until("the jump is seen", || daemon.count("the clock moved by") > n);
            daemon.heard();
            let before = scans();
            wait_until("scans go on", || scans() >= before + 2);
            wait_until("the watchdog is fed", || daemon.heard().iter().any(|m| m.contains("WATCHDOG=1")));
        }
        assert_eq!(lab.told().len(), 1, "told once");
        daemon.signal("TERM");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_the_running_state_is_whole_and_holds_where_it_is_restored() {
    let schedule = "scan = \"*/2 * * * * *\"\nnotices = \"1-59/2 * * * * *\"".to_owned();
    let lab = Lab::with(vec![affected("A1")], Settings { schedule, ..Settings::default() }).await;
    tokio::task::block_in_place(|| {
        let mut daemon = Daemon::start(&lab, |_| {});
        wait_until("told", || lab.told().len() == 1);
        let backup = lab.path("kigen.backup");
        lab.kigen_ok(&["backup", backup.to_str().unwrap()]);
        daemon.signal("TERM");
        assert!(daemon.child.wait().unwrap().success(), "{}", daemon.log());

        std::fs::copy(&backup, lab.path("kigen.db")).unwrap();
        let daemon = Daemon::start(&lab, |_| {});
        wait_until("the hold is said", || daemon.count("restored from a backup") > 0);
        let status: serde_json::Value = serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
        assert_eq!(status["holds"][0]["kind"], "restored", "{status}");
        assert_eq!(status["sites"]["affected"], 1, "{status}");
        lab.kigen_ok(&["resume"]);
        let status: serde_json::Value = serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
        assert_eq!(status["holds"], serde_json::json!([]));
        daemon.signal("TERM");
    });
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_units_are_good_and_hardened() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["kigen.service", "kigen-failure@.service"] {
        // The program is not installed where the tests run.
        let unit = read(&format!("systemd/{name}")).replace("/usr/bin/kigen", "/bin/true");
        std::fs::write(dir.path().join(name), unit).unwrap();
    }
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze").args(args).current_dir(dir.path()).output().unwrap();
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (good, text) = analyze(&["verify", "--man=no", "./kigen.service", "./kigen-failure@x.service"]);
    assert!(good && !text.contains("kigen"), "{text}");
    let (good, text) = analyze(&["security", "--no-pager", "--offline=true", "--threshold=15", "./kigen.service"]);
    assert!(good, "{text}");
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_exist() {
    let metrics = Metrics::new();
    let levels = Levels { days_left: vec![("c".to_owned(), 1)], ..Levels::default() };
    let text = metrics.encode(&levels).unwrap();
    let exists = |name: &str| text.lines().any(|l| l.strip_prefix(name).is_some_and(|r| r.starts_with(['{', ' '])));
    let rules = read("systemd/monitoring/kigen.rules.yml");
    let dashboard = read("systemd/monitoring/kigen-dashboard.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let expressions: Vec<String> = parsed["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| p["targets"].as_array().unwrap())
        .map(|t| t["expr"].as_str().unwrap().to_owned())
        .chain(rules.lines().filter_map(|l| l.trim().strip_prefix("expr: ")).map(ToOwned::to_owned))
        .collect();
    assert!(expressions.len() > 15, "{expressions:?}");
    for expression in expressions {
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in words.filter(|w| w.starts_with("kigen_")) {
            assert!(exists(name), "{name} in `{expression}` is no metric of\n{text}");
        }
    }
}

#[test]
fn every_rule_fires_when_it_should_and_only_then() {
    let promtool = |args: &[&str]| {
        let output = Command::new("promtool")
            .args(args)
            .current_dir(project("systemd/monitoring"))
            .output()
            .expect("promtool is installed by tests/run (Debian's package prometheus)");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}");
    };
    promtool(&["check", "rules", "kigen.rules.yml"]);
    promtool(&["test", "rules", "kigen.rules.test.yml"]);
    let rules = read("systemd/monitoring/kigen.rules.yml");
    let tests = read("systemd/monitoring/kigen.rules.test.yml");
    for name in rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "no test makes {name} fire");
    }
}

#[test]
fn the_package_names_files_that_exist() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        let path = source.trim_end_matches("/*");
        assert!(source.starts_with("target/") || project(path).exists(), "{source}");
    }
    let installs = |to: &str| assets.iter().any(|a| a[1].as_str() == Some(to));
    assert!(installs("etc/kigen/config.toml"), "the configuration is the example");
    assert_eq!(deb["conf-files"][0].as_str(), Some("/etc/kigen/config.toml"));
    assert_eq!(deb["systemd-units"]["start"].as_bool(), Some(false), "not before it is configured");
    let postrm = read("systemd/debian/postrm");
    assert!(postrm.contains("#DEBHELPER#") && postrm.contains("/var/lib/kigen"));
}
