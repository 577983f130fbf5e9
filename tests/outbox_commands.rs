//! What a person does with the outbox by command, with the real program: who and when stand in the history.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod common;

use common::{Lab, Settings, affected, kigen_command, today};
use kigen::demo::mail_server::Policy;

/// Runs the program as that person.
fn as_person(lab: &Lab, who: &str, args: &[&str]) -> (bool, String) {
    let output = kigen_command(&lab.config(), args).env("SUDO_USER", who).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// The ids of the deliveries in that state, by customer.
fn listed(lab: &Lab, state: &str) -> Vec<(String, String, serde_json::Value)> {
    let text = lab.kigen_ok(&["outbox", "list", "--state", state, "--format", "jsonl"]);
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut rows: Vec<_> =
        rows.map(|r| (r["customer"].as_str().unwrap().to_owned(), r["id"].to_string(), r["held"].clone())).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unheard_answer_is_held_for_a_person_who_retries_or_cancels_it() {
    let settings = Settings { mail: "unknown = \"hold\"".to_owned(), ..Settings::default() };
    let lab = Lab::with(vec![affected("A1"), affected("A2")], settings).await;
    lab.mail.set_default_policy(Policy::DropAfterDot);
    blocking(|| {
        lab.kigen_ok(&["scan"]);
        lab.kigen_ok(&["notify"]);
        let held = listed(&lab, "held");
        assert!(held.len() == 2 && held.iter().all(|(_, _, why)| why == "unknown"), "{held:?}");
        lab.kigen_ok(&["notify"]);
        assert_eq!(lab.mail.received().len(), 2, "nothing is sent again by itself");

        let (ok, text) = as_person(&lab, "suzuki", &["outbox", "approve", &held[0].1]);
        assert!(!ok, "to send it once more is a retry, not an approval: {text}");
        lab.mail.set_default_policy(Policy::Accept);
        assert!(as_person(&lab, "tanaka", &["outbox", "retry", &held[0].1]).0);
        assert!(as_person(&lab, "suzuki", &["outbox", "cancel", &held[1].1]).0);
        lab.kigen_ok(&["notify"]);
        let received = lab.mail.received();
        assert_eq!(received.len(), 3);
        let copies: Vec<_> = received.iter().filter(|m| m.recipients == ["admin@a1.example"]).collect();
        assert_eq!(copies[0].data, copies[1].data, "the same bytes, Message-ID and Date included");
        assert_eq!(listed(&lab, "sent").len(), 1);
        assert_eq!(listed(&lab, "unknown")[0].0, "A2", "what a server may hold is never called dropped");
        assert!(lab.kigen_ok(&["history", "A1"]).contains("retried by tanaka"));
        assert!(lab.kigen_ok(&["history", "A2"]).contains("cancelled by suzuki"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn review_waits_for_an_approval_and_a_cancelled_notice_counts_as_had() {
    let lab =
        Lab::with(["A1", "A2", "A3"].map(affected).to_vec(), Settings { mode: "review", ..Settings::default() }).await;
    blocking(|| {
        lab.kigen_ok(&["scan"]);
        lab.kigen_ok(&["notify"]);
        let held = listed(&lab, "held");
        assert!(held.len() == 3 && held.iter().all(|(_, _, why)| why == "review"), "{held:?}");
        assert!(lab.mailed().is_empty());
        assert!(as_person(&lab, "tanaka", &["outbox", "approve", &held[0].1]).0);
        assert!(as_person(&lab, "suzuki", &["outbox", "cancel", &held[1].1]).0);
        let (ok, text) = as_person(&lab, "suzuki", &["outbox", "approve", &held[1].1, "999"]);
        assert!(!ok && text.contains("dropped") && text.contains("no such delivery"), "{text}");
        lab.kigen_ok(&["notify"]);
        assert_eq!(lab.mailed(), ["admin@a1.example"]);
        assert_eq!(listed(&lab, "held").len(), 1, "the cancelled one is not queued again");
        let history = lab.kigen_ok(&["history", "A1"]);
        assert!(history.contains("approved by tanaka") && history.contains(&today().to_string()), "{history}");
        assert!(lab.kigen_ok(&["history", "A2"]).contains("cancelled by suzuki"));
        let shown = lab.kigen_ok(&["outbox", "show", &held[0].1]);
        assert!(shown.contains("approved by tanaka at "), "{shown}");
        assert!(as_person(&lab, "sato", &["outbox", "approve", "--all"]).0);
        lab.kigen_ok(&["notify"]);
        assert_eq!(lab.mailed(), ["admin@a1.example", "admin@a3.example"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_what_is_queued_until_somebody_resumes() {
    let lab = Lab::start(vec![affected("A1")]).await;
    blocking(|| {
        lab.kigen_ok(&["scan"]);
        assert!(as_person(&lab, "tanaka", &["pause", "電話が鳴りやまない"]).0);
        lab.kigen_ok(&["notify"]);
        assert!(lab.mailed().is_empty());
        let status: serde_json::Value = serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
        assert!(status["holds"].to_string().contains("電話が鳴りやまない"), "{status}");
        assert!(as_person(&lab, "suzuki", &["resume"]).0);
        lab.kigen_ok(&["notify"]);
        assert_eq!(lab.mailed(), ["admin@a1.example"]);
        let history = lab.kigen_ok(&["history", "A1"]);
        assert!(history.contains("released by suzuki") || history.contains("resumed by suzuki"), "{history}");
    });
}
