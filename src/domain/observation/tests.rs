//! Every pair of settings, every verdict's words.

use super::*;

const ONLINE: Option<ServerType> = Some(ServerType::ExchangeOnline);
const OWN: Option<ServerType> = Some(ServerType::OnPremises);

#[test]
fn every_pair_of_settings_has_one_meaning() {
    let check = |server_type, auth_method, consent, expected: Verdict| {
        let raw = RawSettings { server_type: Some("?".to_owned()), auth_method: Some("??".to_owned()) };
        let (verdict, detail) = judge(&Settings { server_type, auth_method, raw }, consent);
        assert_eq!(verdict, expected, "{server_type:?} {auth_method:?} {consent:?}");
        assert_eq!(detail.is_some(), verdict.reason().is_some(), "a detail explains what is unreadable, nothing else");
    };
    let unknown = Verdict::Unreadable(Reason::UnknownValue);
    let methods = [None, Some(AuthMethod::Basic), Some(AuthMethod::OAuth), Some(AuthMethod::OnPremisesBasic)];
    for consent in [Consent::NotChecked, Consent::Given, Consent::Missing, Consent::Unsure] {
        for method in methods {
            check(None, method, consent, unknown);
        }
        check(ONLINE, None, consent, unknown);
        check(OWN, None, consent, unknown);
        check(ONLINE, Some(AuthMethod::Basic), consent, Verdict::Affected);
        check(ONLINE, Some(AuthMethod::OnPremisesBasic), consent, unknown);
        for method in AuthMethod::ALL {
            check(OWN, Some(method), consent, Verdict::NotExchangeOnline);
        }
    }
    check(ONLINE, Some(AuthMethod::OAuth), Consent::NotChecked, Verdict::Switched);
    check(ONLINE, Some(AuthMethod::OAuth), Consent::Given, Verdict::Switched);
    check(ONLINE, Some(AuthMethod::OAuth), Consent::Unsure, Verdict::Switched);
    check(ONLINE, Some(AuthMethod::OAuth), Consent::Missing, Verdict::ConsentMissing);
}

#[test]
fn a_strange_text_is_quoted_but_not_at_any_length() {
    let raw = RawSettings { server_type: Some("あ".repeat(5000)), auth_method: None };
    let (_, detail) = judge(&Settings { server_type: None, auth_method: None, raw }, Consent::NotChecked);
    assert!(detail.unwrap().chars().count() < 200);
}

#[test]
fn verdicts_and_reasons_read_back() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        let verdict = Verdict::Unreadable(reason);
        assert_eq!(Verdict::parse(verdict.as_str(), Some(reason.as_str())), Some(verdict));
    }
    let plain = [Verdict::Affected, Verdict::Switched, Verdict::ConsentMissing, Verdict::NotExchangeOnline];
    for verdict in plain {
        assert_eq!(Verdict::parse(verdict.as_str(), None), Some(verdict));
        assert_eq!(Verdict::parse(verdict.as_str(), Some("timeout")), None, "only unreadable has a reason");
    }
    assert_eq!(Verdict::parse("unreadable", None), None, "unreadable without a reason contradicts itself");
    assert_eq!(Verdict::parse("unreadable", Some("bad luck")), None);
    let words: Vec<_> = plain.iter().chain([&Verdict::Unreadable(Reason::Dns)]).map(|v| v.as_str()).collect();
    assert_eq!(words, Verdict::WORDS);
}

#[test]
fn no_customer_falls_out_of_sight() {
    let customer = CustomerId::new("C1").unwrap();
    let at = Timestamp::default();
    let seen = |sites| observations(&customer, &CustomerLook { sites, at }, Consent::NotChecked);

    let failed = seen(Err(Failure::new(Reason::LogonRefused, "refused")));
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].site.as_ref(), failed[0].verdict), (None, Verdict::Unreadable(Reason::LogonRefused)));

    let empty = seen(Ok(Vec::new()));
    assert_eq!(empty.len(), 1, "an empty list is reported too");
    assert_eq!((empty[0].site.as_ref(), empty[0].verdict), (None, Verdict::Unreadable(Reason::SiteMissing)));

    let raw = RawSettings { server_type: Some("x".to_owned()), auth_method: None };
    let failure =
        Failure { reason: Reason::LayoutChanged, detail: "no such label".to_owned(), raw: raw.clone(), inside: true };
    let look = |name: &str, read| SiteLook { site: SiteName::new(name).unwrap(), read, at };
    let settings = Settings { server_type: OWN, auth_method: Some(AuthMethod::OnPremisesBasic), raw: raw.clone() };
    let both = seen(Ok(vec![look("本社", Ok(settings)), look("大阪", Err(failure))]));
    assert_eq!(both[0].verdict, Verdict::NotExchangeOnline);
    assert_eq!(both[1].verdict, Verdict::Unreadable(Reason::LayoutChanged));
    assert_eq!(both[1].raw, raw, "what was read all the same is kept");
}

#[test]
fn consent_that_cannot_be_told_changes_no_verdict() {
    let customer = CustomerId::new("C1").unwrap();
    let at = |text: &str| text.parse::<crate::domain::Timestamp>().unwrap();
    let (then, now) = (at("2022-09-01T00:00:00Z"), at("2022-09-02T00:00:00Z"));
    let seen = |verdict, observed_at| Observation {
        customer: customer.clone(),
        site: Some(SiteName::new("A").unwrap()),
        verdict,
        server_type: ONLINE,
        auth_method: Some(AuthMethod::OAuth),
        raw: RawSettings::default(),
        detail: None,
        observed_at,
    };
    let check = |sentence: &str, verdict, consent, before: Option<Verdict>, expected: (Verdict, _, Option<&str>)| {
        let before: Vec<_> = before.map(|verdict| seen(verdict, then)).into_iter().collect();
        let mut now = vec![seen(verdict, now)];
        corroborate(&mut now, consent, Some("said"), &before);
        assert_eq!((now[0].verdict, now[0].observed_at, now[0].detail.as_deref()), expected, "{sentence}");
    };
    use Verdict::{Affected, ConsentMissing, Switched};
    let kept = Some("said; it was missing when last asked");
    check("missing", ConsentMissing, Consent::Missing, None, (ConsentMissing, now, Some("said")));
    check("not told", Switched, Consent::Unsure, None, (Switched, now, Some("said")));
    check("not told, and switched before", Switched, Consent::Unsure, Some(Switched), (Switched, now, Some("said")));
    check("not told, missing before", Switched, Consent::Unsure, Some(ConsentMissing), (ConsentMissing, then, kept));
    check("given, missing before", Switched, Consent::Given, Some(ConsentMissing), (Switched, now, Some("said")));
    check("the check is off now", Switched, Consent::NotChecked, Some(ConsentMissing), (Switched, now, Some("said")));
    check("basic again", Affected, Consent::Unsure, Some(ConsentMissing), (Affected, now, None));
}
