//! What a log must never hold, at any level: addresses, secrets, what pages say. A whole life of the real program is read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::process::Stdio;

use base64::Engine;
use common::{Lab, Settings, affected, kigen_command, wait_until};
use kigen::demo::admin_tool::Fault;
use kigen::demo::mail_server::Policy;

#[tokio::test(flavor = "multi_thread")]
async fn no_address_secret_or_page_is_logged_at_any_level() {
    let mut customers: Vec<_> = (1..=6).map(|n| affected(&format!("A{n}"))).collect();
    let faults = [
        Fault::PasswordRefused,
        Fault::AccountLocked,
        Fault::ServerError,
        Fault::LabelMissing,
        Fault::UnknownServerType,
        Fault::SessionLostOnce,
        Fault::RedirectElsewhere,
        Fault::WrongSiteShown,
        Fault::ClosedMidBody,
        Fault::Maintenance200,
    ];
    customers.extend(faults.iter().enumerate().map(|(n, fault)| affected(&format!("F{n}")).with_fault(*fault)));
    let settings = Settings { safety: "max_new_notices = \"100%\"".to_owned(), ..Settings::default() };
    let lab = Lab::with(customers, settings).await;
    for (id, policy) in [
        ("a1", Policy::Reject),
        ("a2", Policy::Defer(1)),
        ("a3", Policy::RejectMessage),
        ("a4", Policy::DropAfterDot),
        ("a5", Policy::DropBeforeDot),
    ] {
        lab.mail.set_policy(&format!("admin@{id}.example"), policy);
    }
    tokio::task::block_in_place(|| {
        let mut logs = String::new();
        for format in ["text", "json"] {
            for command in ["scan", "notify"] {
                // RUST_LOG is what libraries' users expect; here it must not open what is closed.
                let mut run = kigen_command(&lab.config(), &["-vvv", "--log-format", format, command]);
                let output = run.env("RUST_LOG", "trace").stdout(Stdio::null()).output().unwrap();
                logs.push_str(&String::from_utf8_lossy(&output.stderr));
            }
        }
        let path = lab.path("daemon.log");
        let log = std::fs::File::create(&path).unwrap();
        let mut run = kigen_command(&lab.config(), &["-vvv", "run"]);
        let mut daemon = run.env("RUST_LOG", "trace").stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        wait_until("it runs", || read().contains("runs: "));
        // A bad customers file: its rows hold addresses and passwords.
        lab.write_customers(|_, column| {
            if column == "email" { "not an address@@secret.example".to_owned() } else { String::new() }
        });
        wait_until("it is read", || read().contains("files read again") || read().contains("the running ones stay"));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        logs.push_str(&read());

        assert!(logs.lines().count() > 20, "something was logged:\n{logs}");
        assert!(!lab.told().is_empty(), "something was sent");
        let mut banned: Vec<String> = [
            "__VIEWSTATE",
            "__EVENTVALIDATION",
            "ASP.NET_SessionId",
            "Set-Cookie",
            "<html",
            "<input",
            "secret.example",
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        for c in &lab.world.lock().customers {
            banned.push(format!("admin@{}.example", c.id.to_lowercase()));
            banned.push(c.password.clone());
            banned.push(base64::engine::general_purpose::STANDARD.encode(&c.password));
            banned.push(c.account.clone());
        }
        // What only the mails' bodies say.
        banned
            .extend(["support@vendor.example", "03-0000-0000", "いつもお世話になっております"].map(ToOwned::to_owned));
        for word in banned {
            let line = logs.lines().find(|line| line.contains(&word));
            assert_eq!(line, None, "`{word}` is in the log");
        }
    });
}
