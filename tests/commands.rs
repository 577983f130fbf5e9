//! The commands as people and scripts drive them: the real program, its output, its exit codes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use chrono::TimeDelta;
use common::{Lab, affected, kigen_command, today, wait_until};
use kigen::demo::admin_tool::{Fault, WorldCustomer, WorldSite};
use kigen::domain::site::{AuthMethod, ServerType};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn sites(id: &str, names: &[&str], method: AuthMethod) -> WorldCustomer {
    WorldCustomer::new(id, names.iter().map(|n| WorldSite::new(n, ServerType::ExchangeOnline, method)).collect())
}

/// Two affected sites, one that switched, one customer that must not be mailed, one that cannot log on.
async fn house() -> Lab {
    let lab = Lab::start(vec![
        sites("A1", &["本社", "大阪支店"], AuthMethod::Basic),
        sites("S1", &["本社"], AuthMethod::OAuth),
        affected("N1"),
        affected("U1").with_fault(Fault::PasswordRefused),
    ])
    .await;
    lab.write_customers(|id, column| match (id, column) {
        ("N1", "notify") => "no".to_owned(),
        ("A1", "name") => "株式会社青葉商事".to_owned(),
        _ => String::new(),
    });
    lab
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The keys of an object as they stand in its text: `Value` would sort them.
fn keys_in_order(line: &str, keys: &[&str]) {
    let mut from = 0;
    for key in keys {
        let at = line[from..].find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} is missing in {line}"));
        from += at;
    }
    let object: Value = serde_json::from_str(line).unwrap();
    assert_eq!(object.as_object().unwrap().len(), keys.len(), "no key more: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_scan_everything_can_be_asked() {
    let lab = house().await;
    tokio::task::block_in_place(|| {
        let status: Value = serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
        assert_eq!(status["last_scan"], Value::Null);
        assert_eq!((&status["customers"], &status["sites"]["affected"]), (&0.into(), &0.into()));
        for args in [
            &["status"][..],
            &["sites"],
            &["outbox", "list"],
            &["plan"],
            &["report", "coverage"],
            &["report", "calls"],
            &["report", "evidence"],
        ] {
            lab.kigen_ok(args);
            if args[0] != "status" {
                let mut args = args.to_vec();
                args.extend(["--format", "jsonl"]);
                assert_eq!(lab.kigen_ok(&args), "", "{args:?}");
            }
        }
        let output = lab.kigen(&["history", "A1"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        assert!(stderr.contains("customer A1 is not known"), "{stderr}");
        assert_eq!(lab.kigen(&["report", "calls", "--customer", "X9"]).status.code(), Some(1));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shapes_that_scripts_rely_on() {
    let lab = house().await;
    tokio::task::block_in_place(|| {
        let scan = lab.kigen_ok(&["scan", "--format", "jsonl"]);
        let keys =
            ["customer", "site", "verdict", "reason", "server_type", "auth_method", "raw", "detail", "observed_at"];
        let line =
            |start: &str| scan.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {scan}"));
        let of_a1 = line(r#"{"customer":"A1","site":"本社","#);
        assert!(
            of_a1.starts_with(
                r#"{"customer":"A1","site":"本社","verdict":"affected","reason":null,"server_type":"exchange_online","auth_method":"basic","raw":{"server_type":"Exchange Online に接続する","auth_method":"基本認証 (Office 365の場合)"},"detail":null,"observed_at":""#
            ),
            "{of_a1}"
        );
        assert!(of_a1.ends_with("+09:00\"}"), "{of_a1}");
        let refused: Value = serde_json::from_str(line(r#"{"customer":"U1","site":null,"#)).unwrap();
        assert_eq!((&refused["verdict"], &refused["reason"]), (&"unreadable".into(), &"logon_refused".into()));
        assert_eq!(refused["raw"], serde_json::json!({"server_type": null, "auth_method": null}));
        let objects = lines(&scan);
        assert_eq!(objects.len(), 5);
        assert!(objects.iter().all(|o| o.as_object().unwrap().len() == keys.len()));

        let plan = lab.kigen_ok(&["plan", "--format", "jsonl"]);
        let [of_a1] = plan.lines().collect::<Vec<_>>()[..] else { panic!("one notice: {plan}") };
        keys_in_order(of_a1, &["at", "customer", "campaign", "kind", "milestone", "sites", "to", "because", "held"]);
        let planned = &lines(&plan)[0];
        assert_eq!((&planned["customer"], &planned["kind"]), (&"A1".into(), &"first".into()));
        assert_eq!((&planned["milestone"], &planned["held"]), (&Value::Null, &Value::Null));
        assert_eq!(planned["sites"].as_array().unwrap().len(), 2);
        assert_eq!(planned["to"], serde_json::json!(["admin@a1.example"]));
        chrono::DateTime::parse_from_rfc3339(planned["at"].as_str().unwrap()).unwrap();
        assert!(planned["because"].as_str().unwrap().contains("not told yet"));

        let status = lab.kigen_ok(&["status", "--format", "json"]);
        keys_in_order(
            status.trim(),
            &["at", "mode", "campaigns", "sites", "customers", "last_scan", "next", "outbox", "holds"],
        );
        let status: Value = serde_json::from_str(&status).unwrap();
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(status["customers"], 4);
        assert_eq!(keys(&status["campaigns"][0]), "days_left deadline id");
        assert_eq!(status["campaigns"][0]["days_left"], 30);
        assert_eq!(keys(&status["sites"]), "affected consent_missing not_exchange_online switched unreadable");
        assert_eq!(status["sites"]["affected"], 3);
        assert_eq!(keys(&status["last_scan"]), "finished_at sites started_at unreadable");
        assert_eq!((&status["last_scan"]["sites"], &status["last_scan"]["unreadable"]), (&5.into(), &1.into()));
        assert_eq!(keys(&status["next"]), "digest notices scan");
        assert_eq!(keys(&status["outbox"]), "dropped failed held queued sending sent unknown");
        assert_eq!(status["holds"], serde_json::json!([]));

        // A hold stands in status, and in what is planned.
        lab.kigen_ok(&["pause", "電話が鳴りやまない"]);
        let status: Value = serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
        assert_eq!(status["holds"][0]["reason"], "電話が鳴りやまない");
        assert_eq!(lines(&lab.kigen_ok(&["plan", "--format", "jsonl"]))[0]["held"], "電話が鳴りやまない");
        assert!(lab.kigen_ok(&["status"]).contains("電話が鳴りやまない"));
        lab.kigen_ok(&["resume"]);

        let csv = lab.kigen_ok(&["sites", "--verdict", "affected", "--format", "csv"]);
        assert_eq!(csv.lines().count(), 4, "a header and three sites: {csv}");
        assert!(csv.starts_with("customer,name,site,verdict,"), "{csv}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reports_say_who_was_told_whom_to_call_and_prove_it() {
    let lab = house().await;
    tokio::task::block_in_place(|| {
        lab.kigen_ok(&["scan"]);
        let report =
            |name: &str, more: &[&str]| lines(&lab.kigen_ok(&[&["report", name, "--format", "jsonl"], more].concat()));
        let before = report("coverage", &[]);
        assert_eq!(before.len(), 3, "every affected site");
        assert!(before.iter().all(|r| r["outcome"] == "not_told" && r["told_at"] == Value::Null));
        let row = |rows: &[Value], customer: &str| rows.iter().find(|r| r["customer"] == customer).cloned();
        assert_eq!(row(&before, "A1").unwrap()["next_kind"], "first");
        let silent = row(&before, "N1").unwrap();
        assert_eq!((&silent["next_kind"], &silent["next_day"]), (&Value::Null, &Value::Null));
        assert!(silent["because"].as_str().unwrap().contains("notify = no"), "{silent}");
        let calls = report("calls", &[]);
        assert!(row(&calls, "A1").unwrap()["why"].as_str().unwrap().contains("first notice is due on"));

        lab.kigen_ok(&["notify"]);
        let after = report("coverage", &["--customer", "A1"]);
        assert_eq!(after.len(), 2);
        for row in &after {
            assert_eq!((&row["outcome"], &row["told_kind"]), (&"accepted".into(), &"first".into()), "{row}");
            assert_eq!((&row["next_kind"], &row["days_left"]), (&"reminder".into(), &30.into()), "{row}");
        }
        let calls = report("calls", &[]);
        assert_eq!(calls.len(), 1, "only who must not be mailed is left to call: {calls:?}");
        assert_eq!((&calls[0]["customer"], &calls[0]["days_left"]), (&"N1".into(), &30.into()));

        let evidence = report("evidence", &[]);
        let mails = lab.mail.received();
        assert_eq!((evidence.len(), mails.len()), (1, 1));
        let proof = &evidence[0];
        let sha256: String = Sha256::digest(&mails[0].data).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(proof["sha256"], sha256.as_str(), "of the bytes that the server got");
        assert_eq!(proof["bytes"], mails[0].data.len());
        assert_eq!((&proof["recipient"], &proof["outcome"]), (&"admin@a1.example".into(), &"accepted".into()));
        let text = String::from_utf8_lossy(&mails[0].data).into_owned();
        for key in ["message_id", "date"] {
            assert!(text.contains(proof[key].as_str().unwrap()), "{key}: {proof}");
        }
        for name in ["coverage", "calls", "evidence"] {
            let csv = lab.kigen_ok(&["report", name, "--format", "csv"]);
            assert!(csv.lines().count() > 1 && lab.kigen_ok(&["report", name]).contains('│'), "{csv}");
        }
        let history = lab.kigen_ok(&["history", "A1", "--format", "jsonl"]);
        for what in ["seen", "decided", "sent", "answered"] {
            assert!(lines(&history).iter().any(|e| e["what"] == what), "{what}: {history}");
        }
        assert!(!history.contains("admin@a1.example"), "addresses are masked");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_the_server_refuses_is_a_call_to_make() {
    let lab = Lab::start(vec![affected("A1"), affected("A2")]).await;
    let config = lab.config_text().replace(&format!("port = {}", lab.mail.port()), "port = 1");
    common::write_private(&lab.config(), config.as_bytes());
    tokio::task::block_in_place(|| {
        lab.kigen_ok(&["scan"]);
        lab.kigen(&["notify"]); // nobody listens there
        let calls = lines(&lab.kigen_ok(&["report", "calls", "--format", "jsonl"]));
        assert_eq!(calls.len(), 2);
        for row in &calls {
            let why = row["why"].as_str().unwrap();
            assert!(why.contains("first notice"), "{why}");
        }
        let coverage = lines(&lab.kigen_ok(&["report", "coverage", "--format", "jsonl"]));
        assert!(coverage.iter().all(|r| r["outcome"] != "accepted"), "{coverage:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn options_stand_where_people_write_them_and_exits_say_what_went_wrong() {
    let lab = house().await;
    let bad = lab.path("bad.toml");
    common::write_private(&bad, b"mode = \"life\"\n");
    let config = lab.config();
    let (config, bad) = (config.to_str().unwrap(), bad.to_str().unwrap());
    let rows: &[(&str, &[&str], i32)] = &[
        ("before the command", &["--config", config, "status"], 0),
        ("after it", &["status", "--config", config], 0),
        ("in short", &["status", "-c", config], 0),
        ("no command", &["--config", config], 2),
        ("an unknown option", &["-c", config, "status", "--colour"], 2),
        ("an unknown verdict", &["-c", config, "sites", "--verdict", "effected"], 2),
        ("an unknown state", &["-c", config, "outbox", "list", "--state", "lost"], 2),
        ("an unknown kind", &["-c", config, "preview", "--customer", "A1", "--kind", "last"], 2),
        ("no time", &["-c", config, "plan", "--at", "tomorrow"], 2),
        ("an end before the beginning", &["-c", config, "plan", "--at", "2022-09-02", "--until", "2022-09-01"], 2),
        ("an unknown customer", &["-c", config, "history", "X9"], 1),
        ("an unknown delivery", &["-c", config, "outbox", "show", "99"], 1),
        ("no daemon to reload", &["-c", config, "reload"], 1),
        ("a bad configuration", &["-c", bad, "status"], 78),
        ("checked", &["-c", bad, "check"], 78),
        ("no configuration", &["-c", "/nonexistent/config.toml", "status"], 78),
    ];
    tokio::task::block_in_place(|| {
        for (sentence, args, code) in rows {
            let output = plain(args).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(*code), "{sentence}: {stderr}");
            assert_eq!(output.stdout.is_empty(), *code != 0, "{sentence}: data goes to stdout, all else to stderr");
            assert_eq!(stderr.is_empty(), *code == 0, "{sentence}: {stderr}");
            assert!(!stderr.contains('\u{1b}'), "{sentence}: no colour in a pipe");
        }
        let output = plain(&["status"]).env("KIGEN_CONFIG", config).output().unwrap();
        assert!(output.status.success(), "KIGEN_CONFIG");
        let output = plain(&["-c", bad, "status", "--color", "always"]).env("NO_COLOR", "1").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains('\u{1b}'), "--color always is stronger than NO_COLOR");
        let output = plain(&["-c", bad, "status", "--color", "never"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains('\u{1b}'));
    });
}

/// The program without any configuration.
fn plain(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kigen"));
    command.args(args).stdin(Stdio::null()).env_remove("KIGEN_CONFIG").env_remove("NO_COLOR");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_had_enough_is_no_failure() {
    let many: Vec<String> = (0..400).map(|n| format!("とても長い名前のサイト{n:04}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let lab = Lab::start(vec![sites("A1", &many[..60], AuthMethod::Basic)]).await;
    tokio::task::block_in_place(|| {
        lab.kigen_ok(&["scan"]);
        for args in [&["sites"][..], &["sites", "--format", "jsonl"], &["completions", "zsh"], &["man"]] {
            let mut child =
                kigen_command(&lab.config(), args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut first = String::new();
            let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
            out.read_line(&mut first).unwrap();
            drop(out);
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            assert!(child.wait().unwrap().success(), "{args:?}: {stderr}");
            assert_eq!(stderr, "", "{args:?}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_is_not_in_the_way_of_questions() {
    let lab = house().await;
    tokio::task::block_in_place(|| {
        let log = lab.path("daemon.log");
        let stderr = std::fs::File::create(&log).unwrap();
        let mut daemon = kigen_command(&lab.config(), &["run"]).stderr(stderr).stdout(Stdio::null()).spawn().unwrap();
        let asked = std::panic::catch_unwind(|| {
            wait_until("the daemon runs", || std::fs::read_to_string(&log).unwrap_or_default().contains(" runs: "));
            lab.kigen_ok(&["scan"]);
            for args in [
                &["status"][..],
                &["sites"],
                &["outbox", "list"],
                &["plan"],
                &["check"],
                &["history", "A1"],
                &["report", "coverage"],
                &["preview", "--customer", "A1"],
            ] {
                lab.kigen_ok(args);
            }
        });
        let _ = daemon.kill();
        let _ = daemon.wait();
        asked.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_an_edit_would_change() {
    let mut lab = Lab::start(vec![affected("A1"), affected("A2")]).await;
    tokio::task::block_in_place(|| {
        assert!(lab.kigen_ok(&["check"]).contains("nothing was scanned"));
        lab.kigen_ok(&["scan"]);
        let same = lab.kigen_ok(&["check"]);
        assert!(same.contains("2: 2 first") && same.contains("no difference"), "{same}");
        lab.kigen_ok(&["notify"]);
    });
    let (old, new) = (today() + TimeDelta::days(30), today() + TimeDelta::days(45));
    lab.settings.campaign = format!("deadline = {new}");
    lab.settings.mode = "review";
    lab.write_config();
    tokio::task::block_in_place(|| {
        let moved = lab.kigen_ok(&["check"]);
        for words in [
            format!("deadline {old} -> {new}"),
            "mode live -> review".to_owned(),
            "2: 2 rescheduled (review: each waits for approval)".to_owned(),
            "rescheduled 0 -> 2".to_owned(),
        ] {
            assert!(moved.contains(&words), "{words}: {moved}");
        }
        assert_eq!(lab.mail.received().len(), 2, "a check sends nothing");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn check_renders_every_template_and_names_the_faulty_line() {
    let mut lab = Lab::start(vec![affected("A1")]).await;
    let dir = lab.path("templates");
    std::fs::create_dir(&dir).unwrap();
    let files = [
        ("first.ja.txt", "{{ reference }}\n株式会社 {{ compnay }}\n"),
        ("reminder.ja.txt", "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
        ("overdue.ja.subject", "件名\nBcc: thief@evil.example"),
        ("resolved.ja.html", "<p>{{ reference }}<p>{% if x %}\n"),
    ];
    lab.settings.campaign.push_str("\ntemplates = \"templates/\"");
    lab.write_config();
    for (name, source) in files {
        std::fs::write(dir.join(name), source).unwrap();
        tokio::task::block_in_place(|| {
            for args in [&["check"][..], &["status"], &["preview", "--customer", "A1"]] {
                let output = lab.kigen(args);
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(78), "{name} {args:?}: {stderr}");
                assert!(stderr.contains(name), "{name}: {stderr}");
                if (name, args[0]) == ("first.ja.txt", "check") {
                    assert!(stderr.contains("templates/first.ja.txt:2:9: undefined value"), "{stderr}");
                }
            }
        });
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    // Another deprecation has no built-in wording: a check says so, not the first mail.
    lab.settings
        .campaign
        .push_str("\n[[campaign]]\nid = \"other\"\naffects = \"exchange_online\"\ndeadline = 2030-01-01");
    lab.write_config();
    tokio::task::block_in_place(|| {
        let output = lab.kigen(&["check"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains("first.ja.subject") && stderr.contains("exchange_online"), "{stderr}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_can_be_previewed_in_both_languages_then_and_today() {
    let mut lab = Lab::start(vec![affected("J1"), affected("E1")]).await;
    lab.settings.campaign = String::new();
    lab.write_config();
    lab.write_customers(|id, column| if (id, column) == ("E1", "language") { "en".to_owned() } else { String::new() });
    tokio::task::block_in_place(|| {
        lab.kigen_ok(&["scan"]);
        for kind in ["first", "reminder", "overdue", "consent", "resolved", "regressed", "rescheduled"] {
            for (customer, at) in [("J1", Some("2022-09-01")), ("E1", None)] {
                let mut args = vec!["preview", "--customer", customer, "--kind", kind];
                args.extend(at.into_iter().flat_map(|at| ["--at", at]));
                let text = lab.kigen_ok(&args);
                assert!(text.starts_with("Subject: ") && text.contains("KG-"), "{kind}: {text}");
                assert_eq!(text.contains("Reference number"), customer == "E1", "{kind}: {text}");
            }
        }
        let dir = lab.path("out");
        let args =
            ["preview", "--customer", "J1", "--kind", "first", "--at", "2022-09-01", "-o", dir.to_str().unwrap()];
        assert_eq!(lab.kigen_ok(&args), "", "paths are told on stderr");
        let read = |ending: &str| std::fs::read(dir.join(format!("J1-first.{ending}"))).unwrap();
        let html = String::from_utf8(read("html")).unwrap();
        assert!(html.starts_with("<!DOCTYPE html>") && !html.contains("src=") && !html.contains("<link"));
        let eml = read("eml");
        let mail = mail_parser::MessageParser::default().parse(&eml).unwrap();
        assert_eq!(mail.body_html(0).unwrap().replace("\r\n", "\n").trim(), html.trim());
        assert!(mail.subject().unwrap().contains("KG-"));
        assert!(String::from_utf8(read("txt")).unwrap().contains("KG-"));
    });
}
