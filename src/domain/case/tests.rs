//! How looks move a case, its evidence, its number.

use super::*;
use crate::domain::observation::Verdict::{Affected, ConsentMissing, NotExchangeOnline, Switched, Unreadable};

fn name(text: &str) -> SiteName {
    SiteName::new(text).unwrap()
}

fn at(hour: i64) -> Timestamp {
    "2022-09-01T00:00:00Z".parse::<Timestamp>().unwrap() + chrono::TimeDelta::hours(hour)
}

fn seen(site: &str, verdict: Verdict, hour: i64) -> Observation {
    Observation {
        customer: CustomerId::new("C1").unwrap(),
        site: (!site.is_empty()).then(|| name(site)),
        verdict,
        server_type: None,
        auth_method: None,
        raw: RawSettings { server_type: Some(format!("{site} at {hour}")), auth_method: None },
        detail: None,
        observed_at: at(hour),
    }
}

fn new_case() -> Case {
    Case {
        customer: CustomerId::new("C1").unwrap(),
        campaign: CampaignId("c".to_owned()),
        reference: Reference::from_digest(&[1, 2, 3, 4, 5]),
        round: 1,
        state: CaseState::Open,
        opened_at: at(0),
        round_at: at(0),
        sites: BTreeMap::new(),
        told: Vec::new(),
    }
}

/// A look: its sites and verdicts.
type Look<'a> = (LookKind, &'a [(&'a str, Verdict)]);

/// Walks the looks, one an hour from hour 0.
fn after(looks: &[Look<'_>]) -> (Option<Case>, Vec<CaseEvent>) {
    walk_on(None, 0, looks)
}

fn walk_on(mut case: Option<Case>, from: i64, looks: &[Look<'_>]) -> (Option<Case>, Vec<CaseEvent>) {
    let mut events = Vec::new();
    for (hour, (kind, sites)) in (from..).zip(looks) {
        let look: Vec<_> = sites.iter().map(|(site, verdict)| seen(site, *verdict, hour)).collect();
        let (next, happened) = observe(case, new_case, Affects::BasicAuth, &look, *kind);
        case = next;
        events.extend(happened);
    }
    (case, events)
}

const SCAN: LookKind = LookKind::Scan;
const CHECK: LookKind = LookKind::Check;
const TIMEOUT: Verdict = Unreadable(Reason::Timeout);
const MISSING: Verdict = Unreadable(Reason::SiteMissing);

/// `site: standing clear_scans absent_scans`, comma between; `-` = no case.
fn shape(case: Option<&Case>) -> String {
    case.map_or_else(
        || "-".to_owned(),
        |case| {
            let site = |(n, s): (&SiteName, &CaseSite)| {
                format!("{n}: {} {} {}", s.standing.as_str(), s.clear_scans, s.absent_scans)
            };
            case.sites.iter().map(site).collect::<Vec<_>>().join(", ")
        },
    )
}

#[test]
fn looks_move_a_case() {
    let check = |sentence: &str, looks: &[Look<'_>], expected: &str| {
        assert_eq!(shape(after(looks).0.as_ref()), expected, "{sentence}");
    };
    check("no site has anything to do: no case", &[(SCAN, &[("A", Switched), ("B", NotExchangeOnline)])], "-");
    check("what cannot be read opens nothing", &[(SCAN, &[("A", TIMEOUT)])], "-");
    check(
        "an affected site opens it; the others are no part",
        &[(SCAN, &[("A", Affected), ("B", Switched)])],
        "A: affected 0 0",
    );
    check("a site without consent opens it too", &[(SCAN, &[("A", ConsentMissing)])], "A: consent_missing 0 0");
    check(
        "a second site joins when it becomes affected",
        &[(SCAN, &[("A", Affected), ("B", Switched)]), (SCAN, &[("A", Affected), ("B", Affected)])],
        "A: affected 0 0, B: affected 0 0",
    );
    check(
        "an unreadable scan changes nothing",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("A", TIMEOUT)])],
        "A: affected 0 0",
    );
    check("a clear scan counts", &[(SCAN, &[("A", Affected)]), (SCAN, &[("A", Switched)])], "A: clear 1 0");
    check(
        "an unreadable scan neither counts nor breaks the row",
        &[
            (SCAN, &[("A", Affected)]),
            (SCAN, &[("A", Switched)]),
            (SCAN, &[("A", TIMEOUT)]),
            (SCAN, &[("A", Switched)]),
        ],
        "A: clear 2 0",
    );
    check(
        "an affected scan breaks it",
        &[
            (SCAN, &[("A", Affected)]),
            (SCAN, &[("A", Switched)]),
            (SCAN, &[("A", Affected)]),
            (SCAN, &[("A", Switched)]),
        ],
        "A: clear 1 0",
    );
    check(
        "so does a scan without consent",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("A", Switched)]), (SCAN, &[("A", ConsentMissing)])],
        "A: consent_missing 0 0",
    );
    check(
        "the look before a notice moves the standing and counts nothing",
        &[(SCAN, &[("A", Affected)]), (CHECK, &[("A", Switched)])],
        "A: clear 0 0",
    );
    check(
        "nor does it count for a site that is clear already",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("A", Switched)]), (CHECK, &[("A", Switched)])],
        "A: clear 1 0",
    );
    check(
        "but it breaks the row when it finds the site affected",
        &[
            (SCAN, &[("A", Affected)]),
            (SCAN, &[("A", Switched)]),
            (CHECK, &[("A", Affected)]),
            (SCAN, &[("A", Switched)]),
        ],
        "A: clear 1 0",
    );
    check(
        "a site that is listed no more is affected no more, from the first scan",
        &[(SCAN, &[("A", Affected), ("B", Switched)]), (SCAN, &[("B", Switched)])],
        "A: clear 1 1",
    );
    check(
        "a site of the customers file that the tool does not list is listed no more",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("A", MISSING), ("B", Switched)])],
        "A: clear 1 1",
    );
    check(
        "only a scan takes a site off the list",
        &[(SCAN, &[("A", Affected), ("B", Switched)]), (CHECK, &[("B", Switched)])],
        "A: affected 0 0",
    );
    check(
        "a site that comes back breaks the row of its absence",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("B", Switched)]), (SCAN, &[("A", Affected), ("B", Switched)])],
        "A: affected 0 0",
    );
    check(
        "a site that comes back unreadable is listed again, and its clear scans stand",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("B", Switched)]), (SCAN, &[("A", TIMEOUT), ("B", Switched)])],
        "A: clear 1 0",
    );
    check(
        "a listing that failed moves nothing",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("", TIMEOUT)])],
        "A: affected 0 0",
    );
    check("an empty look moves nothing", &[(SCAN, &[("A", Affected)]), (SCAN, &[])], "A: affected 0 0");
}

#[test]
fn a_relapse_begins_the_next_round_with_the_sites_it_is_about() {
    let (case, _) = after(&[(SCAN, &[("A", Affected), ("B", Affected)]), (SCAN, &[("A", Switched), ("B", Switched)])]);
    let mut resolved = case.unwrap();
    resolved.state = CaseState::Resolved { at: at(2) };
    let check = |sentence: &str, looks: &[Look<'_>], round: u32, open: bool, expected: &str| {
        let (case, _) = walk_on(Some(resolved.clone()), 3, looks);
        let case = case.unwrap();
        assert_eq!((case.round, case.state == CaseState::Open), (round, open), "{sentence}");
        assert_eq!(shape(Some(&case)), expected, "{sentence}");
    };
    check(
        "it stays resolved while all is well",
        &[(SCAN, &[("A", Switched), ("B", Switched)])],
        1,
        false,
        "A: clear 2 0, B: clear 2 0",
    );
    check(
        "and while nothing can be read",
        &[(SCAN, &[("A", TIMEOUT), ("B", TIMEOUT)])],
        1,
        false,
        "A: clear 1 0, B: clear 1 0",
    );
    check("an affected site reopens it", &[(SCAN, &[("A", Affected), ("B", Switched)])], 2, true, "A: affected 0 0");
    check(
        "one without consent too",
        &[(SCAN, &[("A", Switched), ("B", ConsentMissing)])],
        2,
        true,
        "B: consent_missing 0 0",
    );
    check("the look before a notice too", &[(CHECK, &[("A", Affected), ("B", TIMEOUT)])], 2, true, "A: affected 0 0");
    check(
        "once: an open case stays in its round",
        &[(SCAN, &[("A", Affected), ("B", Switched)]), (SCAN, &[("A", Switched), ("B", Affected)])],
        2,
        true,
        "A: clear 1 0, B: affected 0 0",
    );
    let (case, events) = walk_on(Some(resolved.clone()), 3, &[(SCAN, &[("A", Affected), ("B", Switched)])]);
    assert_eq!(case.unwrap().round_at, at(3));
    assert_eq!(events[0], CaseEvent::Reopened { round: 2 });
}

#[test]
fn a_case_tells_what_happened_once() {
    let affected = CaseEvent::SiteMoved { site: name("A"), from: None, to: Standing::Affected };
    let clear = CaseEvent::SiteMoved { site: name("A"), from: Some(Standing::Affected), to: Standing::Clear };
    let check = |sentence: &str, looks: &[Look<'_>], expected: &[CaseEvent]| {
        assert_eq!(after(looks).1, expected, "{sentence}");
    };
    check("opening", &[(SCAN, &[("A", Affected)])], &[CaseEvent::Opened, affected.clone()]);
    check(
        "the same again is no news",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("A", Affected)])],
        &[CaseEvent::Opened, affected.clone()],
    );
    check(
        "a switch",
        &[(SCAN, &[("A", Affected)]), (SCAN, &[("A", Switched)]), (SCAN, &[("A", Switched)])],
        &[CaseEvent::Opened, affected.clone(), clear],
    );
    check(
        "a site that stays away for months is told of once",
        &[
            (SCAN, &[("A", Affected)]),
            (SCAN, &[("B", Switched)]),
            (SCAN, &[("B", Switched)]),
            (SCAN, &[("B", Switched)]),
        ],
        &[CaseEvent::Opened, affected, CaseEvent::SiteAbsent { site: name("A"), scans: 1 }],
    );
}

#[test]
fn the_evidence_is_the_latest_conclusive_look_and_the_last_bad_one() {
    let (case, _) = after(&[
        (SCAN, &[("A", Affected)]),
        (SCAN, &[("A", Affected)]),
        (SCAN, &[("A", Switched)]),
        (SCAN, &[("A", Switched)]),
        (SCAN, &[("A", TIMEOUT)]),
    ]);
    let case = case.unwrap();
    let site = &case.sites[&name("A")];
    assert_eq!(site.now.observed_at, at(3));
    assert_eq!(site.before.observed_at, at(1));
    assert_eq!(site.before.raw.server_type.as_deref(), Some("A at 1"));
    assert_eq!(site.since, at(2));
}

#[test]
fn a_case_is_clear_when_every_site_is_often_enough() {
    let check = |sentence: &str, looks: &[Look<'_>], confirm, expected| {
        assert_eq!(after(looks).0.unwrap().confirmed_clear(confirm), expected, "{sentence}");
    };
    let opened: Look<'_> = (SCAN, &[("A", Affected), ("B", Affected)]);
    check("affected", &[opened], 1, false);
    check("one of two", &[opened, (SCAN, &[("A", Switched), ("B", Affected)])], 1, false);
    check("both once, and once is enough", &[opened, (SCAN, &[("A", Switched), ("B", Switched)])], 1, true);
    check("both once, and twice is asked for", &[opened, (SCAN, &[("A", Switched), ("B", Switched)])], 2, false);
    check("both gone from the tool", &[opened, (SCAN, &[("C", Switched)]), (SCAN, &[("C", Switched)])], 2, true);
    check(
        "the look before a notice does not count, even if one scan would be enough",
        &[opened, (CHECK, &[("A", Switched), ("B", Switched)])],
        1,
        false,
    );
}

#[test]
fn a_reference_is_stable_and_can_be_read_out_on_the_telephone() {
    let check = |digest: [u8; 5], expected: &str| assert_eq!(Reference::from_digest(&digest).to_string(), expected);
    check([0; 5], "KG-0000-0000");
    check([0xff; 5], "KG-ZZZZ-ZZZZ");
    check([0, 0, 0, 0, 1], "KG-0000-0001");
    check([0x08, 0, 0, 0, 0], "KG-1000-0000");
    check([0x01, 0x23, 0x45, 0x67, 0x89], "KG-04HM-ASW9");
    for byte in 0..=u8::MAX {
        let text = Reference::from_digest(&[byte, byte ^ 0x5a, byte.rotate_left(3), !byte, 7]).0;
        assert_eq!(text.len(), 12, "{text}");
        assert!(!text[3..].contains(['I', 'L', 'O', 'U']), "{text}");
        assert!(text.chars().all(|c| c == '-' || c.is_ascii_uppercase() || c.is_ascii_digit()), "{text}");
    }
}
