//! A contact whose address is dead: told, planned around, called, and revived.

use chrono::TimeDelta;
use kigen::clock::{Clock, SystemClock};
use kigen::daemon::bounces;
use kigen::daemon::operators::{Tending, tend};
use kigen::daemon::untold::{self, Why};
use tokio_util::sync::CancellationToken;

use super::common::{Bench, Lab, Settings, affected, kigen_command, today, write_private};
use super::{english, rows, tell, text, titles};

const UNKNOWN: &str = "550 5.1.1 User unknown";

/// A report that this mail came back, as a server would make it.
fn came_back(lab: &Lab, recipient: &str) {
    let mail = lab.mail.received().into_iter().find(|m| m.recipients.iter().any(|r| r == recipient)).unwrap();
    let raw = String::from_utf8(mail.data).unwrap();
    let (to, header) = (mail.envelope_from, raw.split("\r\n\r\n").next().unwrap().to_owned());
    let report = format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example\r\nTo: {to}\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; {UNKNOWN}\r\n--b\r\n\
         Content-Type: text/rfc822-headers\r\n\r\n{header}\r\n--b--\r\n"
    );
    std::fs::write(lab.path("bounces/new").join(format!("{recipient}.mx")), report).unwrap();
}

/// A1 has a `fallback_email`, B1 nobody but its one contact, C1 another address.
async fn with_contacts() -> Lab {
    let mail = "envelope_from = \"bounces@vendor.example\"\n[mail.bounces]\nmaildir = \"bounces\"".to_owned();
    let lab = Lab::with(["A1", "B1", "C1"].map(affected).into(), Settings { mail, ..english() }).await;
    for part in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(lab.path("bounces").join(part)).unwrap();
    }
    lab.write_customers(|id, column| match (id, column) {
        ("C1", "email") => "admin@c1.example;boss@c1.example".to_owned(),
        _ => String::new(),
    });
    let file = std::fs::read_to_string(lab.path("customers.csv")).unwrap();
    let more = |(n, line): (usize, &str)| match n {
        0 => format!("{line},fallback_email,phone\n"),
        _ if line.starts_with("A1,") => format!("{line},fallback@a1.example,\n"),
        _ => format!("{line},,03-0000-0001\n"),
    };
    write_private(&lab.path("customers.csv"), file.lines().enumerate().map(more).collect::<String>().as_bytes());
    lab
}

async fn to_call(bench: &Bench) -> Vec<(String, Why)> {
    untold::to_call(&bench.ctx).await.unwrap().into_iter().map(|c| (c.customer.to_string(), c.why)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_contact_is_told_planned_around_called_and_revived() {
    let lab = with_contacts().await;
    let bench = lab.open(SystemClock.now()).await;
    bench.scan().await;
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(to_call(&bench).await, [], "a server took them all");
    tell(&bench).await;
    for address in ["admin@a1.example", "admin@b1.example", "admin@c1.example"] {
        came_back(&lab, address);
    }
    bounces::read(&bench.ctx, None, &CancellationToken::new()).await.unwrap();

    // The operators hear of each, once, and of what it means.
    assert_eq!(tell(&bench).await, 1);
    assert_eq!(titles(&lab).last().unwrap(), "3 contacts whose address is dead");
    let said = text(lab.alerted().last().unwrap());
    for part in [
        "a***@a1.example: fallback_email is told from now on",
        "a***@b1.example: no other address is left, it must be called",
        "a***@c1.example: the customer's other addresses are told",
        UNKNOWN,
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("admin@"), "{said}");
    bench.go(TimeDelta::hours(2));
    tend(&bench.ctx, &mut Tending::default()).await.unwrap();
    bench.deliver().await;
    assert_eq!(lab.alerted().len(), 2, "it lasts, and was told");

    // Who was not told after all: a mail that came back reached nobody. The other address of C1 has it.
    let (a1, b1) = (("A1".to_owned(), Why::CameBack), ("B1".to_owned(), Why::Dead));
    assert_eq!(to_call(&bench).await, [a1, b1.clone()]);
    let facts = kigen::daemon::digest::facts(&bench.ctx, bench.clock.now()).await.unwrap();
    let calls: Vec<_> = facts.calls.iter().map(|c| (c.id.as_str(), c.phone.as_deref(), c.why)).collect();
    assert_eq!(calls, [("A1", None, "the notice came back"), ("B1", Some("03-0000-0001"), "every address is dead")]);
    assert_eq!(untold::count(&bench.ctx).await.unwrap(), 2, "and the dashboard counts the same");

    assert_eq!(facts.planned, [("first", 1)], "the digest counts what is told again, as the plan does");

    tokio::task::block_in_place(|| {
        let soon = lab.config_text().replace("notices = \"0 0 1 1 *\"", "notices = \"* * * * *\"");
        write_private(&lab.path("soon.toml"), soon.as_bytes());
        let check = kigen_command(&lab.path("soon.toml"), &["check"]).output().unwrap();
        let check = String::from_utf8(check.stdout).unwrap();
        assert!(check.contains(" would send 1: 1 first"), "{check}");
        let calls = rows(&lab.kigen_ok(&["report", "calls", "--format", "jsonl"]));
        let whom: Vec<_> = calls.iter().map(|c| c["customer"].as_str().unwrap()).collect();
        assert_eq!(whom, ["A1", "B1"]);
        assert!(calls[0]["why"].as_str().unwrap().contains("was taken and came back"), "{calls:?}");

        // The plan names who will really get it.
        let plan = rows(&lab.kigen_ok(&["plan", "--format", "jsonl"]));
        assert_eq!((plan.len(), &plan[0]["customer"]), (1, &"A1".into()), "told again, to the fallback: {plan:?}");
        assert_eq!(plan[0]["to"], serde_json::json!(["fallback@a1.example"]));
        let later = (today() + TimeDelta::days(24)).to_string();
        let plan = rows(&lab.kigen_ok(&["plan", "--at", &later, "--format", "jsonl"]));
        let of = |id: &str| plan.iter().find(|p| p["customer"] == id).unwrap();
        assert_eq!(of("A1")["to"], serde_json::json!(["fallback@a1.example"]));
        assert_eq!(of("C1")["to"], serde_json::json!(["boss@c1.example"]));
        assert_eq!(of("B1")["to"], serde_json::json!([]));
        assert!(of("B1")["held"].as_str().unwrap().contains("must be called"));
    });

    bench.pass().await;
    bench.deliver().await;
    assert_eq!(lab.mailed().iter().filter(|to| *to == "fallback@a1.example").count(), 1);
    assert_eq!(to_call(&bench).await, [b1], "the fallback was told");

    tokio::task::block_in_place(|| {
        let dead = rows(&lab.kigen_ok(&["contact", "list", "--format", "jsonl"]));
        let left: Vec<_> = dead.iter().map(|d| (d["address"].as_str().unwrap(), d["left"].as_str().unwrap())).collect();
        let expected = [("a***@a1.example", "fallback"), ("a***@b1.example", "nobody"), ("a***@c1.example", "others")];
        assert_eq!(left, expected);
        assert_eq!(
            lab.kigen(&["contact", "revive", "B1", "boss@b1.example"]).status.code(),
            Some(1),
            "another address"
        );
        lab.kigen_ok(&["contact", "revive", "B1", "admin@b1.example"]);
        lab.kigen_ok(&["contact", "revive", "C1"]);
        assert_eq!(lab.kigen(&["contact", "revive", "C1"]).status.code(), Some(1), "it is alive");
        assert_eq!(rows(&lab.kigen_ok(&["contact", "list", "--format", "jsonl"])).len(), 1);
        let history = lab.kigen_ok(&["history", "B1"]);
        assert!(history.contains("a***@b1.example counts as alive again, says "), "{history}");
    });
    assert_eq!(to_call(&bench).await, [("B1".to_owned(), Why::CameBack)], "it can be mailed, and was not told yet");
    let plan = plan_at(&lab, TimeDelta::days(24)).await;
    assert_eq!(plan.iter().find(|p| p["customer"] == "B1").unwrap()["to"], serde_json::json!(["admin@b1.example"]));
}

async fn plan_at(lab: &Lab, ahead: TimeDelta) -> Vec<serde_json::Value> {
    let at = (today() + ahead).to_string();
    tokio::task::block_in_place(|| rows(&lab.kigen_ok(&["plan", "--at", &at, "--format", "jsonl"])))
}
