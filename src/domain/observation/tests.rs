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
    for consent in [Consent::NotChecked, Consent::Given, Consent::Missing] {
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
