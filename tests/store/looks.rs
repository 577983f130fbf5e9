//! The fleet, and what looks change.

use kigen::domain::case::LookKind::{Check, Scan};
use kigen::domain::case::{CaseState, LookKind};
use kigen::domain::observation::{Observation, Reason, Verdict};
use kigen::store::{Committed, Entry, Refused, SiteCounts, Store};

use crate::House;
use crate::fixtures::*;

async fn listed(store: &dyn Store) -> Vec<(String, Verdict, u32)> {
    let rows = store.sites(&[]).await.unwrap();
    rows.into_iter()
        .map(|row| {
            let site = row.seen.site.as_ref().map_or("-", |s| s.as_str());
            (format!("{}/{site}", row.seen.customer), row.seen.verdict, row.unreadable_scans)
        })
        .collect()
}

fn line(name: &str, verdict: Verdict, unreadable_scans: u32) -> (String, Verdict, u32) {
    (name.to_owned(), verdict, unreadable_scans)
}

const TIMEOUT: Verdict = Verdict::Unreadable(Reason::Timeout);

pub async fn customers_come_are_renamed_and_go(house: &dyn House) {
    let store = house.open().await;
    assert_eq!(store.customer_count().await.unwrap(), 0);
    enter(&*store, &["C1", "C2"]).await;
    enter(&*store, &["C1", "C2"]).await;
    assert_eq!(store.customer_count().await.unwrap(), 2);
    let states = store.customer_states(&[id("C2"), id("nobody"), id("C1")]).await.unwrap();
    let order: Vec<_> = states.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(order, ["C2", "C1"], "in the order asked, without the unknown one");
    assert!(states.iter().all(|s| s.sites.is_empty() && s.cases.is_empty() && s.refused.is_none()));

    look(&*store, "C1", Scan, vec![seen("C1", "本社", Verdict::Affected, 1)], 1).await;
    let renamed = Entry { id: id("C1"), name: "新社名".to_owned() };
    store.sync_customers(&mut [renamed].into_iter(), at(5)).await.unwrap();
    assert_eq!(store.customer_count().await.unwrap(), 1);
    assert_eq!(store.sites(&[]).await.unwrap()[0].customer_name, "新社名");
    store.sync_customers(&mut std::iter::empty(), at(6)).await.unwrap();
    assert_eq!(state(&*store, "C1").await.cases.len(), 1, "cases stay");
    enter(&*store, &["C1"]).await;
    assert_eq!(listed(&*store).await, [line("C1/本社", Verdict::Affected, 0)], "and come back with the customer");
}

pub async fn what_was_seen_comes_back(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let verdicts = [Verdict::Affected, Verdict::Switched, Verdict::ConsentMissing, Verdict::NotExchangeOnline];
    let verdicts = verdicts.into_iter().chain(Reason::ALL.into_iter().map(Verdict::Unreadable));
    let mut all: Vec<Observation> =
        verdicts.enumerate().map(|(n, verdict)| seen("C1", &format!("サイト{n:02}"), verdict, 7)).collect();
    all[1].detail = Some("a note with \"quotes\", \\ and 改行なし".to_owned());
    all[2].raw.server_type = None;
    look(&*store, "C1", Scan, all.clone(), 8).await;
    assert_eq!(state(&*store, "C1").await.sites, all);
    let rows: Vec<_> = store.sites(&[]).await.unwrap().into_iter().map(|row| row.seen).collect();
    assert_eq!(rows, all);
    let only = store.sites(&["switched".to_owned(), "affected".to_owned()]).await.unwrap();
    assert_eq!(only.len(), 2);
    assert_eq!(store.site_counts().await.unwrap().unreadable, 16);
}

pub async fn cases_come_back(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1", "C2"]).await;
    let both = |minutes| {
        vec![seen("C1", "本社", Verdict::Affected, minutes), seen("C1", "支店", Verdict::ConsentMissing, minutes)]
    };
    let mut first = change(&*store, "C1", Scan, both(1), 1).await;
    first.cases[0].sites.values_mut().for_each(|s| s.absent_scans = 3);
    store.commit_looks(std::slice::from_ref(&first)).await.unwrap();
    let state_after = state(&*store, "C1").await;
    assert_eq!(state_after.cases, first.cases);
    assert_eq!(state_after.version, first.version + 1);
    assert_eq!(store.open_cases().await.unwrap(), first.cases);

    let mut second = change(&*store, "C1", Scan, vec![seen("C1", "本社", Verdict::Switched, 2)], 2).await;
    second.cases[0].sites.remove(&site("支店"));
    second.cases[0].state = CaseState::Resolved { at: at(2) };
    second.cases[0].round = 2;
    store.commit_looks(std::slice::from_ref(&second)).await.unwrap();
    assert_eq!(state(&*store, "C1").await.cases, second.cases, "a case is written as a whole");
    assert_eq!(store.open_cases().await.unwrap(), [], "resolved");
    assert_eq!(state(&*store, "C2").await.cases, []);
}

pub async fn refused_logons_are_remembered_and_forgotten(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let refused = Refused { at: at(3), fingerprint: "abc".to_owned() };
    let mut look = change(&*store, "C1", Scan, vec![no_listing("C1", Reason::LogonRefused, 3)], 3).await;
    look.refused = Some(refused.clone());
    store.commit_looks(&[look]).await.unwrap();
    assert_eq!(state(&*store, "C1").await.refused, Some(refused));
    let look = change(&*store, "C1", Scan, vec![seen("C1", "本社", Verdict::Switched, 4)], 4).await;
    store.commit_looks(&[look]).await.unwrap();
    assert_eq!(state(&*store, "C1").await.refused, None);
}

pub async fn a_stale_look_changes_nothing_and_leaves_the_others_alone(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1", "C2"]).await;
    let of = |customer| change(&*store, customer, Scan, vec![seen(customer, "本社", Verdict::Affected, 1)], 1);
    let (fresh, mut stale, mut stranger) = (of("C1").await, of("C2").await, of("C1").await);
    stale.version -= 1;
    stranger.customer = id("nobody");
    stranger.cases.clear();
    let again = fresh.clone();
    let committed = store.commit_looks(&[stale.clone(), fresh, again, stranger]).await.unwrap();
    assert_eq!(committed, [Committed::Stale, Committed::Done(None), Committed::Stale, Committed::Stale]);
    assert_eq!(listed(&*store).await, [line("C1/本社", Verdict::Affected, 0)]);
    let untouched = state(&*store, "C2").await;
    assert_eq!((untouched.version, untouched.cases.len()), (stale.version + 1, 0));
    assert_eq!(store.history(&id("C2")).await.unwrap().unwrap(), []);
    assert_eq!(store.commit_looks(&[]).await.unwrap(), []);
}

pub async fn a_failed_listing_makes_every_listed_site_unreadable(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let (a, b) = (seen("C1", "A", Verdict::Affected, 1), seen("C1", "B", Verdict::Switched, 1));
    look(&*store, "C1", Scan, vec![a.clone(), b], 1).await;
    look(&*store, "C1", Scan, vec![a], 2).await; // B is off the list.
    let failed = no_listing("C1", Reason::Maintenance, 3);
    look(&*store, "C1", Scan, vec![failed.clone()], 3).await;
    let expected = Observation { site: Some(site("A")), ..failed };
    assert_eq!(state(&*store, "C1").await.sites, [expected], "for that reason, in those words");
    assert_eq!(listed(&*store).await, [line("C1/A", Verdict::Unreadable(Reason::Maintenance), 1)]);
    let case = &state(&*store, "C1").await.cases[0];
    assert!(case.any(kigen::domain::campaign::Standing::Affected), "and nothing moves in the case");
}

pub async fn a_customer_without_sites_has_one_line_until_a_listing_succeeds(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    look(&*store, "C1", Scan, vec![no_listing("C1", Reason::LogonRefused, 1)], 1).await;
    look(&*store, "C1", Scan, vec![no_listing("C1", Reason::Timeout, 2)], 2).await;
    assert_eq!(listed(&*store).await, [line("C1/-", TIMEOUT, 2)]);
    assert_eq!(store.site_counts().await.unwrap().unreadable, 1);
    assert_eq!(state(&*store, "C1").await.sites, [], "no site was ever listed");
    look(&*store, "C1", Check, vec![seen("C1", "A", Verdict::Switched, 3)], 3).await;
    assert_eq!(listed(&*store).await, [line("C1/A", Verdict::Switched, 0)]);
}

pub async fn only_a_scan_takes_sites_off_the_list(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let (a, b) = (seen("C1", "A", Verdict::Affected, 1), seen("C1", "B", Verdict::Affected, 1));
    look(&*store, "C1", Scan, vec![a, b], 1).await;
    look(&*store, "C1", Check, vec![seen("C1", "A", Verdict::Switched, 2)], 2).await;
    let both = [line("C1/A", Verdict::Switched, 0), line("C1/B", Verdict::Affected, 0)];
    assert_eq!(listed(&*store).await, both);
    look(&*store, "C1", Scan, vec![seen("C1", "A", Verdict::Switched, 3)], 3).await;
    assert_eq!(listed(&*store).await, both[..1]);
    let missing = Verdict::Unreadable(Reason::SiteMissing);
    look(&*store, "C1", Scan, vec![seen("C1", "A", Verdict::Switched, 4), seen("C1", "B", missing, 4)], 4).await;
    let reported = [line("C1/A", Verdict::Switched, 0), line("C1/B", missing, 1)];
    assert_eq!(listed(&*store).await, reported, "a missing site that is asked for is reported");
}

pub async fn only_scans_count_as_unreadable(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let steps: [(&str, LookKind, Verdict, u32); 6] = [
        ("a scan counts", Scan, TIMEOUT, 1),
        ("a check does not", Check, TIMEOUT, 1),
        ("the next scan does", Scan, Verdict::Unreadable(Reason::Dns), 2),
        ("reading it ends the row", Scan, Verdict::Affected, 0),
        ("and it begins anew", Scan, TIMEOUT, 1),
        ("reading it in a check ends it, too", Check, Verdict::Affected, 0),
    ];
    for (n, (sentence, kind, verdict, expected)) in (1..).zip(steps) {
        look(&*store, "C1", kind, vec![seen("C1", "A", verdict, n)], n).await;
        assert_eq!(listed(&*store).await, [line("C1/A", verdict, expected)], "{sentence}");
    }
}

pub async fn history_keeps_changes_not_looks(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    for minutes in 1..=5 {
        look(&*store, "C1", Scan, vec![seen("C1", "A", Verdict::Switched, minutes)], minutes).await;
    }
    let mut other_words = seen("C1", "A", TIMEOUT, 6);
    look(&*store, "C1", Scan, vec![other_words.clone()], 6).await;
    other_words.detail = Some("other words".to_owned());
    other_words.observed_at = at(7);
    look(&*store, "C1", Check, vec![other_words.clone()], 7).await;
    assert_eq!(state(&*store, "C1").await.sites, [other_words], "the newest words stand");
    look(&*store, "C1", Scan, vec![], 8).await;
    look(&*store, "C1", Scan, vec![seen("C1", "A", TIMEOUT, 9)], 9).await;
    let history = store.history(&id("C1")).await.unwrap().unwrap();
    let texts: Vec<_> = history.iter().map(|e| (e.at, e.text.as_str())).collect();
    let expected = [
        (
            at(1),
            "site A: switched [Exchange Online に接続する / OAuth認証 (Office 365の場合)]; seen until 2022-08-31T22:05:03Z",
        ),
        (at(6), "site A: unreadable (timeout): other words; seen until 2022-08-31T22:07:03Z"),
        (at(9), "site A: unreadable (timeout): site A did not answer"),
    ];
    assert_eq!(texts, expected, "a site that comes back to the list is a new line");
    assert_eq!(store.history(&id("nobody")).await.unwrap(), None);
}

pub async fn listings_and_counts_leave_out_who_is_gone(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1", "C2"]).await;
    let of = |c| vec![seen(c, "B", Verdict::Affected, 1), seen(c, "A", Verdict::ConsentMissing, 1)];
    look(&*store, "C2", Scan, of("C2"), 1).await;
    look(&*store, "C1", Scan, of("C1"), 1).await;
    let names: Vec<_> = listed(&*store).await.into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, ["C1/A", "C1/B", "C2/A", "C2/B"], "by customer and name");
    enter(&*store, &["C2"]).await;
    assert_eq!(listed(&*store).await.len(), 2);
    let counts = SiteCounts { affected: 1, consent_missing: 1, ..SiteCounts::default() };
    assert_eq!(store.site_counts().await.unwrap(), counts);
    assert_eq!(store.sites(&["switched".to_owned()]).await.unwrap(), []);
}
