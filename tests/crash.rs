//! Killing the real process in the middle of its work: nothing is lost, and what is repeated is the same to the byte.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Lab, Settings, affected, kigen_command, wait_until};
use kigen::demo::mail_server::Policy;

/// Every customer got its mail; mails with one Message-ID are the same bytes. Returns how many were repeated.
fn check_mails(lab: &Lab, customers: usize) -> usize {
    let mut copies: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for mail in lab.told() {
        assert_eq!(mail.recipients.len(), 1);
        copies.entry(mail.recipients[0].clone()).or_default().push(mail.data);
    }
    assert_eq!(copies.len(), customers, "no notice was lost");
    for (recipient, mails) in &copies {
        assert!(mails.windows(2).all(|pair| pair[0] == pair[1]), "{recipient} got two different mails");
        assert!(mails.len() <= 2, "{recipient} got {} copies", mails.len());
    }
    copies.values().map(|mails| mails.len() - 1).sum()
}

/// What a person would try again: what waits for its minute after an unheard answer, and what was killed in both of its
/// attempts and has not come: that stands as `unknown` and is told to the operators.
fn to_retry(lab: &Lab) -> Vec<String> {
    let listing = lab.kigen_ok(&["outbox", "list", "--state", "queued", "--state", "unknown", "--format", "jsonl"]);
    let rows = listing.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mailed = lab.mailed();
    let came = |row: &serde_json::Value| {
        mailed.contains(&format!("admin@{}.example", row["customer"].as_str().unwrap().to_lowercase()))
    };
    rows.filter(|row| row["state"] == "queued" || !came(row)).map(|row| row["id"].to_string()).collect()
}

const CUSTOMERS: usize = 200;
const KILLS: usize = 100;
/// Where the random instants begin.
const SEED: u64 = 20_221_001;

/// A random instant within a process's life, in milliseconds; xorshift, so that a failure can be run again.
fn instant(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % 120
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_instants_it_loses_no_notice() {
    let settings =
        Settings { safety: "max_new_notices = \"100%\"\nmax_age = \"1h\"".to_owned(), ..Settings::default() };
    let lab = Lab::with((0..CUSTOMERS).map(|n| affected(&format!("A{n:03}"))).collect(), settings).await;
    lab.mail.set_default_policy(Policy::Delay(Duration::from_millis(20)));
    tokio::task::block_in_place(|| {
        lab.kigen_ok(&["scan"]);
        let (mut kills, mut rounds, mut random) = (0, 0, SEED);
        while kills < KILLS && lab.told().len() < CUSTOMERS {
            rounds += 1;
            let before = lab.told().len();
            let mut child = kigen_command(&lab.config(), &["-q", "notify"]).spawn().unwrap();
            // Every third dies on its way to the first mail, the others while they send.
            if rounds % 3 != 0 {
                wait_until("a mail or the end", || child.try_wait().unwrap().is_some() || lab.told().len() > before);
            }
            std::thread::sleep(Duration::from_millis(instant(&mut random) / if rounds % 3 == 0 { 1 } else { 4 }));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                kills += 1;
            }
            child.wait().unwrap();
        }
        assert!(kills >= KILLS / 2, "killed {kills} times only: the test tests too little");
        lab.mail.set_default_policy(Policy::Accept);
        wait_until("everything is delivered", || {
            lab.kigen_ok(&["notify"]);
            let status: serde_json::Value =
                serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
            let outbox = &status["outbox"];
            let again = to_retry(&lab);
            if !again.is_empty() {
                let mut retry = vec!["outbox", "retry"];
                retry.extend(again.iter().map(String::as_str));
                lab.kigen_ok(&retry);
            }
            again.is_empty() && outbox["queued"] == 0 && outbox["sending"] == 0
        });
        let repeated = check_mails(&lab, CUSTOMERS);
        assert!(repeated <= kills, "{repeated} repeats for {kills} kills: at most one mail a connection is in flight");
        println!("{kills} kills, {repeated} mails sent twice");
    });
}
