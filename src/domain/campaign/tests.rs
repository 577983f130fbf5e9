//! A campaign's dates and whom it affects.

use super::*;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn campaign() -> Campaign {
    Campaign {
        id: CampaignId("exchange-online-basic-auth".to_owned()),
        affects: Affects::BasicAuth,
        begins: None,
        deadline: day("2022-10-01"),
        postponed_to: Some(day("2022-12-31")),
        last_day: Some(day("2023-01-01")),
        reminders: vec![Milestone { days: 30 }],
        overdue_every: Some(7),
        consent_every: 7,
        source: None,
        product: None,
    }
}

#[test]
fn what_can_be_postponed_depends_on_the_day() {
    let check = |on: &str, expected: Postponing| assert_eq!(campaign().postponing(day(on)), expected, "{on}");
    check("2022-09-30", Postponing::OptOut);
    check("2022-10-01", Postponing::TurnOnAgain);
    check("2022-12-31", Postponing::TurnOnAgain);
    check("2023-01-01", Postponing::Never);
    let never = Campaign { postponed_to: None, ..campaign() };
    assert_eq!(never.postponing(day("2022-09-01")), Postponing::Never);
}

#[test]
fn the_way_back_ends_on_the_final_day() {
    assert!(campaign().way_back(day("2022-12-31")));
    assert!(!campaign().way_back(day("2023-01-01")));
    assert!(Campaign { last_day: None, ..campaign() }.way_back(day("2030-01-01")));
}

#[test]
fn a_milestone_however_far_is_a_day() {
    assert_eq!(Campaign::milestone_day(day("2022-10-01"), Milestone { days: 30 }), day("2022-09-01"));
    assert!(Campaign::milestone_day(day("2022-10-01"), Milestone { days: u32::MAX }) < day("1950-01-01"));
}

#[test]
fn a_standing_comes_from_a_conclusive_observation_only() {
    use crate::domain::observation::{RawSettings, Reason};
    use crate::domain::site::CustomerId;
    let check = |affects: Affects, server_type, verdict, expected: Option<Standing>| {
        let seen = Observation {
            customer: CustomerId::new("C1").unwrap(),
            site: None,
            verdict,
            server_type,
            auth_method: None,
            raw: RawSettings::default(),
            detail: None,
            observed_at: crate::domain::Timestamp::default(),
        };
        assert_eq!(affects.standing(&seen), expected, "{affects:?} {verdict:?}");
    };
    let (online, own) = (Some(ServerType::ExchangeOnline), Some(ServerType::OnPremises));
    check(Affects::BasicAuth, online, Verdict::Affected, Some(Standing::Affected));
    check(Affects::BasicAuth, online, Verdict::ConsentMissing, Some(Standing::ConsentMissing));
    check(Affects::BasicAuth, online, Verdict::Switched, Some(Standing::Clear));
    check(Affects::BasicAuth, own, Verdict::NotExchangeOnline, Some(Standing::Clear));
    check(Affects::ExchangeOnline, online, Verdict::Switched, Some(Standing::Affected));
    check(Affects::ExchangeOnline, online, Verdict::ConsentMissing, Some(Standing::Affected));
    check(Affects::ExchangeOnline, own, Verdict::NotExchangeOnline, Some(Standing::Clear));
    for reason in Reason::ALL {
        check(Affects::BasicAuth, online, Verdict::Unreadable(reason), None);
        check(Affects::ExchangeOnline, online, Verdict::Unreadable(reason), None);
    }
    for standing in [Standing::Affected, Standing::ConsentMissing, Standing::Clear] {
        assert_eq!(Standing::parse(standing.as_str()), Some(standing));
    }
}

#[test]
fn it_begins_at_the_deadline_unless_another_day_is_given() {
    assert_eq!(campaign().begins_on(), day("2022-10-01"));
    let phased = Campaign { begins: Some(day("2022-09-01")), ..campaign() };
    assert_eq!(phased.begins_on(), day("2022-09-01"));
}

#[test]
fn an_id_is_lower_case_letters_digits_and_hyphens() {
    for (text, good) in [
        ("exchange-online-ews", true),
        ("2027", true),
        ("", false),
        ("EWS", false),
        ("-a", false),
        ("a-", false),
        ("a b", false),
    ] {
        assert_eq!(CampaignId::new(text).is_some(), good, "{text}");
    }
    assert!(CampaignId::new(&"a".repeat(65)).is_none());
}
