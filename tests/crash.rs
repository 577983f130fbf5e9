//! Killing the real process in the middle of its work: nothing is lost, and what is repeated is the same to the byte.

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

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_sending_none_is_lost() {
    let customers = 40;
    let settings =
        Settings { safety: "max_new_notices = \"100%\"\nmax_age = \"1h\"".to_owned(), ..Settings::default() };
    let lab = Lab::with((0..customers).map(|n| affected(&format!("A{n:03}"))).collect(), settings).await;
    lab.mail.set_default_policy(Policy::Delay(Duration::from_millis(15)));
    tokio::task::block_in_place(|| {
        lab.kigen_ok(&["scan"]);
        let mut kills = 0;
        // Each time a little later, so that the process dies at other places of its work.
        for extra in 0..12_u64 {
            let before = lab.told().len();
            let mut child = kigen_command(&lab.config(), &["-q", "notify"]).spawn().unwrap();
            let mut ended = false;
            wait_until("a mail or the end", || {
                ended = child.try_wait().unwrap().is_some();
                ended || lab.told().len() > before
            });
            std::thread::sleep(Duration::from_millis(extra * 3));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                kills += 1;
            }
            child.wait().unwrap();
        }
        assert!(kills >= 6, "the process was killed {kills} times only: the test tests nothing");
        wait_until("everything is delivered", || {
            lab.kigen_ok(&["notify"]);
            let status: serde_json::Value =
                serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
            let outbox = &status["outbox"];
            if outbox["queued"] != 0 {
                // A mail whose answer was lost is sent again after a minute by the clock; a person may not wait.
                let listing = lab.kigen_ok(&["outbox", "list", "--state", "queued", "--format", "jsonl"]);
                for line in listing.lines() {
                    let row: serde_json::Value = serde_json::from_str(line).unwrap();
                    lab.kigen_ok(&["outbox", "retry", &row["id"].to_string()]);
                }
            }
            outbox["queued"] == 0 && outbox["sending"] == 0
        });
        let repeated = check_mails(&lab, customers);
        assert!(repeated <= kills, "{repeated} repeats for {kills} kills: at most one mail a connection is in flight");
    });
}
