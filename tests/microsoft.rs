//! The Microsoft side, end to end against a simulated login service: who switched and forgot the consent is found and told
//! once; whatever else that side answers changes no verdict, and a service in trouble holds no scan up.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use chrono::{DateTime, TimeDelta, Utc};
use common::{Bench, Lab, Settings};
use kigen::clock::{Clock, SystemClock};
use kigen::demo::admin_tool::{WorldCustomer, WorldSite};
use kigen::demo::microsoft::{Asked, Grant, LoginFault, LoginService, LoginWorld, SharedLogin};
use kigen::domain::alert::Cause;
use kigen::domain::observation::{Observation, Verdict};
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::{AuthMethod, ServerType};

const APP: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "s3cret-of-the-app";
const HOME: &str = "vendor.example";

/// A customer whose one site uses that method.
fn customer(id: &str, method: AuthMethod) -> WorldCustomer {
    WorldCustomer::new(id, vec![WorldSite::new("本社", ServerType::ExchangeOnline, method)])
}

fn domain(id: &str) -> String {
    format!("{}.example", id.to_lowercase())
}

/// The laboratory with a login service; `more` stands below `[microsoft]`.
struct Side {
    lab: Lab,
    login: LoginService,
}

impl Side {
    async fn start(customers: Vec<WorldCustomer>, grants: &[(&str, Grant)], more: &str) -> Self {
        let mut world = LoginWorld::new(APP, SECRET, HOME);
        for (id, grant) in grants {
            world.add(&domain(id), false, grant.clone());
        }
        let login = LoginService::start(SharedLogin::new(world)).await.unwrap();
        let lab = Lab::with(customers, Settings::default()).await;
        lab.write_customers(|id, column| match column {
            "tenant_domain" => domain(id),
            _ => String::new(),
        });
        common::write_private(&lab.path("secret"), SECRET.as_bytes());
        let text = format!("{}\n[microsoft]\nlogin_url = \"{}\"\n{more}\n", lab.config_text(), login.url);
        common::write_private(&lab.config(), text.as_bytes());
        Self { lab, login }
    }

    async fn open(&self) -> Bench {
        self.lab.open(morning()).await
    }

    fn set(&self, id: &str, grant: Grant) {
        self.login.world().lock().add(&domain(id), false, grant);
    }

    fn tokens(&self, id: &str) -> usize {
        let world = self.login.world().lock();
        let tenant = world.tenants[&domain(id)].id.clone();
        world.asked.iter().filter(|asked| **asked == Asked::Token(tenant.clone())).count()
    }
}

/// This morning, so that the laboratory's deadline lies ahead.
fn morning() -> DateTime<Utc> {
    SystemClock.now()
}

fn consent() -> String {
    consent_at(&format!(", home_tenant = \"{HOME}\""))
}

fn consent_at(more: &str) -> String {
    format!("consent = {{ client_id = \"{APP}\", client_secret = {{ file = \"secret\" }}{more} }}")
}

fn full() -> Grant {
    Grant::Roles(vec!["full_access_as_app".to_owned()])
}

fn verdicts(seen: &[Observation]) -> Vec<(String, Verdict)> {
    let mut all: Vec<_> = seen.iter().map(|o| (o.customer.to_string(), o.verdict)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn detail(seen: &[Observation], id: &str) -> String {
    seen.iter().find(|o| o.customer.as_str() == id).and_then(|o| o.detail.clone()).unwrap_or_default()
}

async fn raised(bench: &Bench, cause: Cause) -> usize {
    let groups = bench.ctx.store.untold_alerts().await.unwrap();
    groups.iter().filter(|group| group.cause == cause).map(|group| group.count as usize).sum()
}

#[tokio::test]
async fn who_switches_and_forgets_the_consent_is_told_once_until_it_is_given() {
    let side = Side::start(vec![customer("C1", AuthMethod::Basic)], &[("C1", Grant::None)], &consent()).await;
    let bench = side.open().await;
    assert_eq!(verdicts(&bench.scan().await.0)[0].1, Verdict::Affected);
    assert_eq!(side.tokens("C1"), 0, "a site with basic authentication needs no consent");
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(side.lab.told().len(), 1, "the first notice");

    side.lab.world.lock().set_auth_method("C1", "本社", AuthMethod::OAuth);
    bench.go(TimeDelta::days(1));
    let (seen, _) = bench.scan().await;
    assert_eq!(seen[0].verdict, Verdict::ConsentMissing);
    assert!(detail(&seen, "C1").contains("AADSTS700016"), "{}", detail(&seen, "C1"));
    assert!(detail(&seen, "C1").contains("trace_id 255d1aef"), "for Microsoft's support: {}", detail(&seen, "C1"));
    let notices = bench.pass().await.notices;
    assert_eq!(notices.iter().map(|n| n.planned.due.kind).collect::<Vec<_>>(), [NoticeKind::Consent]);
    bench.deliver().await;
    assert_eq!(side.lab.told().len(), 2, "and the consent notice");

    bench.go(TimeDelta::days(1));
    bench.scan().await;
    assert!(bench.pass().await.notices.is_empty(), "not told twice");

    side.login.world().lock().consent(&domain("C1"));
    for day in 0..2 {
        bench.go(TimeDelta::days(1));
        assert_eq!(bench.scan().await.0[0].verdict, Verdict::Switched, "day {day}: given");
    }
    let notices = bench.pass().await.notices;
    assert_eq!(notices.iter().map(|n| n.planned.due.kind).collect::<Vec<_>>(), [NoticeKind::Resolved]);
    bench.deliver().await;
    assert_eq!(side.lab.told().len(), 3, "first, consent, resolved");
}

#[tokio::test]
async fn only_missing_and_disabled_change_a_verdict() {
    let rows: Vec<(&str, &str, Grant, Verdict, &str)> = vec![
        ("A1", "granted", full(), Verdict::Switched, ""),
        ("A2", "no service principal", Grant::None, Verdict::ConsentMissing, "missing"),
        ("A3", "the newer number", Grant::Error("invalid_client", 7_000_229), Verdict::ConsentMissing, "AADSTS7000229"),
        ("A4", "disabled", Grant::Disabled, Verdict::ConsentMissing, "disabled"),
        ("A5", "without the role", Grant::Roles(vec!["IMAP.AccessAsApp".into()]), Verdict::ConsentMissing, "the role"),
        ("A6", "no Exchange Online", Grant::NoExchange, Verdict::Switched, "no_exchange_online"),
        ("A7", "a number never seen", Grant::Error("invalid_grant", 7_654_321), Verdict::Switched, "AADSTS7654321"),
        ("A8", "conditional access", Grant::Error("invalid_grant", 53_003), Verdict::Switched, "AADSTS53003"),
        ("A9", "of the moment", Grant::Error("invalid_request", 90_033), Verdict::Switched, "transient"),
    ];
    let mut customers: Vec<_> = rows.iter().map(|row| customer(row.0, AuthMethod::OAuth)).collect();
    customers.push(customer("B1", AuthMethod::OAuth)); // its domain is no tenant's
    customers.push(WorldCustomer::new(
        "B2",
        vec![WorldSite::new("本社", ServerType::OnPremises, AuthMethod::OnPremisesBasic)],
    ));
    let grants: Vec<_> = rows.iter().map(|row| (row.0, row.2.clone())).collect();
    let side = Side::start(customers, &grants, &consent()).await;
    let bench = side.open().await;
    let (seen, _) = bench.scan().await;
    let found = verdicts(&seen);
    for (id, sentence, _, verdict, says) in &rows {
        let (_, seen_as) = found.iter().find(|(customer, _)| customer == id).unwrap();
        assert_eq!(seen_as, verdict, "{sentence}: {}", detail(&seen, id));
        assert!(detail(&seen, id).contains(says), "{sentence}: {}", detail(&seen, id));
    }
    assert_eq!(found[9], ("B1".to_owned(), Verdict::Switched), "a wrong domain on file");
    assert!(detail(&seen, "B1").contains("no tenant has this domain"), "{}", detail(&seen, "B1"));
    assert_eq!(found[10].1, Verdict::NotExchangeOnline);
    assert_eq!(detail(&seen, "A1"), "", "nothing is said of what is well");
    assert!(seen.iter().all(|o| !o.detail.as_deref().unwrap_or_default().contains(SECRET)));

    let asked = side.login.world().lock().asked.clone();
    assert!(!asked.contains(&Asked::Tenant(domain("B2"))), "who does not switch is not asked for");
    side.login.world().lock().asked.clear();
    bench.go(TimeDelta::hours(12));
    bench.scan().await;
    let asked = side.login.world().lock().asked.clone();
    let tenants = asked.iter().filter(|a| matches!(a, Asked::Tenant(_))).count();
    assert_eq!(tenants, 1, "tenants are known for a day; one that is none is asked again: {asked:?}");
    assert_eq!(side.tokens("A1"), 1, "consent is asked anew in each scan");
    let again = bench.ctx.store.memo("microsoft.known").await.unwrap().unwrap();
    assert!(again.contains(&domain("A1")) && !again.contains("access_token") && !again.contains("eyJ"), "{again}");
}

#[tokio::test]
async fn our_own_credential_that_is_refused_ends_the_questions_and_tells_the_operators_once() {
    let ids = ["C1", "C2", "C3", "C4"];
    let customers = || ids.iter().map(|id| customer(id, AuthMethod::OAuth)).collect::<Vec<_>>();
    let grants: Vec<_> = ids.iter().map(|id| (*id, Grant::None)).collect();
    for (sentence, with_home, more) in [
        ("proved on our own tenant", true, consent()),
        ("not proved, but refused by a customer's tenant", false, consent_at("")),
    ] {
        let side = Side::start(customers(), &grants, &more).await;
        let bench = side.open().await;
        side.login.world().lock().secret_expired = true;
        if !with_home {
            // Only where the application is does the service look at the secret at all.
            side.set("C1", full());
            side.set("C2", full());
            side.set("C3", full());
            side.set("C4", full());
        }
        for scan in 0..2 {
            let (seen, _) = bench.scan().await;
            assert!(seen.iter().all(|o| o.verdict == Verdict::Switched), "{sentence}: {:?}", verdicts(&seen));
            assert!(detail(&seen, "C4").contains("AADSTS7000222"), "{sentence}: {}", detail(&seen, "C4"));
            assert!(raised(&bench, Cause::MicrosoftRefused).await == 1, "{sentence}, scan {scan}: one alert");
            bench.go(TimeDelta::hours(12));
        }
        if with_home {
            assert_eq!(side.tokens("C1") + side.tokens("C2"), 0, "no customer's tenant is asked");
        }
        assert!(bench.pass().await.notices.is_empty(), "{sentence}: nobody is told anything");
        side.login.world().lock().secret_expired = false;
        ids.iter().for_each(|id| side.set(id, full()));
        let (seen, _) = bench.scan().await;
        assert!(seen.iter().all(|o| o.verdict == Verdict::Switched && o.detail.is_none()), "{sentence}: well again");
        let open = bench.ctx.store.untold_alerts().await.unwrap();
        let rows = match open.iter().find(|group| group.cause == Cause::MicrosoftRefused) {
            Some(group) => bench.ctx.store.alerts_of(group, 10).await.unwrap(),
            None => panic!("{sentence}: it was never told"),
        };
        assert!(rows.iter().all(|row| row.over), "{sentence}: over");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_and_a_wrong_client_id_are_our_own_fault_too() {
    let grants = [("C1", full())];
    for (sentence, more, says) in [
        (
            "no such variable",
            consent().replace("file = \"secret\"", "env = \"KIGEN_NO_SUCH_VARIABLE\""),
            "KIGEN_NO_SUCH",
        ),
        (
            "an application that nobody knows",
            consent().replace(APP, "99999999-0000-0000-0000-000000000000"),
            "home_tenant",
        ),
        ("a home that is no tenant", consent().replace(HOME, "nowhere.example"), "no tenant has this domain"),
    ] {
        let side = Side::start(vec![customer("C1", AuthMethod::OAuth)], &grants, &more).await;
        let bench = side.open().await;
        let (seen, _) = bench.scan().await;
        assert_eq!(seen[0].verdict, Verdict::Switched, "{sentence}");
        assert!(detail(&seen, "C1").contains(says), "{sentence}: {}", detail(&seen, "C1"));
        assert_eq!(raised(&bench, Cause::MicrosoftRefused).await, 1, "{sentence}");
    }
}

#[tokio::test]
async fn a_service_in_trouble_changes_nothing_and_holds_nobody_up() {
    let ids: Vec<String> = (0..60).map(|n| format!("C{n:02}")).collect();
    let customers: Vec<_> = ids.iter().map(|id| customer(id, AuthMethod::OAuth)).collect();
    let grants: Vec<_> = ids.iter().map(|id| (id.as_str(), Grant::None)).collect();
    let bomb = bomb();
    for (sentence, fault, says) in [
        ("throttled", LoginFault::Throttled(Some(120)), "429"),
        ("throttled without a time", LoginFault::Throttled(None), "429"),
        ("down", LoginFault::Down, "503"),
        ("a web page instead of JSON", LoginFault::Page, "web page"),
        ("more than any answer", LoginFault::Bytes(vec![b' '; 200_000], None), "more than 64 KiB"),
        ("small on the wire, huge inside", LoginFault::Bytes(bomb.clone(), Some("gzip")), "more than 64 KiB"),
        ("broken compression", LoginFault::Bytes(b"\x1f\x8bnonsense".to_vec(), Some("gzip")), "decompressed"),
    ] {
        let side = Side::start(customers.clone(), &grants, &consent()).await;
        let bench = side.open().await;
        side.login.world().lock().fault = fault;
        let (seen, report) = bench.scan().await;
        assert_eq!(report.sites.switched, 60, "{sentence}: {:?}", report.sites);
        let first = seen.iter().find_map(|o| o.detail.clone()).unwrap();
        assert!(first.contains("consent not verified"), "{sentence}: {first}");
        assert!(seen.iter().any(|o| o.detail.as_deref().is_some_and(|d| d.contains(says))), "{sentence}: {first}");
        let asked = side.login.world().lock().asked.len();
        assert!(asked < 40, "{sentence}: it is left alone after a row of failures, and was asked {asked} times");
        assert_eq!(raised(&bench, Cause::MicrosoftRefused).await, 0, "{sentence}: that is not our credential's fault");
        assert!(bench.pass().await.notices.is_empty(), "{sentence}");
    }
}

/// Eight megabytes of JSON in eight kilobytes.
fn bomb() -> Vec<u8> {
    include_bytes!("fixtures/microsoft/bomb.json.gz").to_vec()
}

#[tokio::test]
async fn a_service_that_never_answers_is_soon_asked_no_more() {
    let ids: Vec<String> = (0..60).map(|n| format!("C{n:02}")).collect();
    let customers: Vec<_> = ids.iter().map(|id| customer(id, AuthMethod::OAuth)).collect();
    let grants: Vec<_> = ids.iter().map(|id| (id.as_str(), Grant::None)).collect();
    let side = Side::start(customers, &grants, &consent_at("")).await;
    let bench = side.open().await;
    side.login.world().lock().fault = LoginFault::Hang;
    let (_, report) = bench.scan().await;
    assert_eq!((report.sites.switched, report.sites.unreadable), (60, 0));
    // A question that is in vain costs seconds, so it is their number that counts.
    let asked = side.login.world().lock().asked.len();
    assert!((1..40).contains(&asked), "asked {asked} times for 60 customers");
}

#[tokio::test]
async fn consent_that_was_missing_is_not_given_by_a_service_that_is_down() {
    let side = Side::start(vec![customer("C1", AuthMethod::OAuth)], &[("C1", Grant::None)], &consent()).await;
    let bench = side.open().await;
    assert_eq!(bench.scan().await.0[0].verdict, Verdict::ConsentMissing);
    bench.pass().await;
    bench.deliver().await;
    let told = side.lab.told().len();
    assert_eq!(told, 1, "the consent notice");
    side.login.world().lock().fault = LoginFault::Down;
    for day in 1..=8 {
        bench.go(TimeDelta::days(1));
        let (seen, _) = bench.scan().await;
        assert_eq!(seen[0].verdict, Verdict::ConsentMissing, "day {day}");
        assert!(detail(&seen, "C1").contains("it was missing when last asked"), "{}", detail(&seen, "C1"));
        bench.pass().await;
        bench.deliver().await;
        assert_eq!(side.lab.told().len(), told, "day {day}: neither thanked nor reminded on old evidence");
    }
}

#[tokio::test]
async fn a_certificate_proves_us_as_well_as_a_secret() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["kigen".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let thumbprint = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(certificate.der()));
    let more = format!(
        "consent = {{ client_id = \"{APP}\", certificate = \"entra.pem\", key = {{ file = \"entra-key.pem\" }}, home_tenant = \"{HOME}\" }}"
    );
    let customers = vec![customer("C1", AuthMethod::OAuth), customer("C2", AuthMethod::OAuth)];
    let side = Side::start(customers, &[("C1", full()), ("C2", Grant::None)], &more).await;
    common::write_private(&side.lab.path("entra.pem"), certificate.pem().as_bytes());
    common::write_private(&side.lab.path("entra-key.pem"), pair.serialize_pem().as_bytes());
    side.login.world().lock().certificate = Some((pair.public_key_pem(), thumbprint));
    let bench = side.open().await;
    let found = verdicts(&bench.scan().await.0);
    assert_eq!(found, [("C1".to_owned(), Verdict::Switched), ("C2".to_owned(), Verdict::ConsentMissing)]);
    assert_eq!(raised(&bench, Cause::MicrosoftRefused).await, 0);

    side.login.world().lock().certificate = None;
    let (seen, _) = bench.scan().await;
    assert!(detail(&seen, "C1").contains("AADSTS700027"), "{}", detail(&seen, "C1"));
    assert_eq!(raised(&bench, Cause::MicrosoftRefused).await, 1);
}

#[tokio::test]
async fn the_realm_decides_what_a_notice_says_of_feature_phones() {
    let customers = ["C1", "C2", "C3"].map(|id| customer(id, AuthMethod::Basic)).to_vec();
    let side = Side::start(customers, &[("C1", full())], "realm = true").await;
    side.login.world().lock().add(&domain("C2"), true, full());
    // C3's domain is no tenant's.
    let bench = side.open().await;
    bench.scan().await;
    assert!(side.login.world().lock().asked.is_empty(), "a scan has no need of it");
    bench.pass().await;
    bench.deliver().await;
    let says = |id: &str| {
        let to = format!("admin@{}", domain(id));
        let mail = side.lab.told().into_iter().find(|mail| mail.recipients == [to.clone()]).unwrap();
        let parsed = mail_parser::MessageParser::default().parse(&mail.data).unwrap();
        parsed.body_text(0).unwrap().contains("ホーム領域検出ポリシー")
    };
    assert!(!says("C1"), "managed: no word of federation");
    assert!(says("C2"), "federated");
    assert!(says("C3"), "unknown: the advice stands");
    let asked = side.login.world().lock().asked.clone();
    assert_eq!(asked.len(), 3, "once a customer: {asked:?}");
    assert!(asked.iter().all(|a| matches!(a, Asked::Realm(user) if user.starts_with("realm-of@"))), "{asked:?}");
    bench.go(TimeDelta::hours(12));
    bench.scan().await;
    bench.pass().await;
    assert_eq!(side.login.world().lock().asked.len(), 3, "known for a day");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_ask_too_and_show_no_secret() {
    let customers = vec![customer("C1", AuthMethod::OAuth), customer("C2", AuthMethod::OAuth)];
    let side = Side::start(customers, &[("C1", full()), ("C2", Grant::None)], &consent()).await;
    let check = side.lab.kigen(&["check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(side.login.world().lock().asked.is_empty(), "a check connects to nothing");
    let output = side.lab.kigen(&["scan", "--format", "jsonl", "-v"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |id: &str| lines.iter().find(|line| line["customer"] == id).unwrap();
    assert_eq!((of("C1")["verdict"].as_str(), of("C1")["detail"].as_str()), (Some("switched"), None));
    assert_eq!(of("C2")["verdict"], "consent_missing");
    assert!(of("C2")["detail"].as_str().unwrap().contains("AADSTS700016"), "{out}");
    for secret in [SECRET, "eyJ", "client_secret="] {
        assert!(!out.contains(secret) && !err.contains(secret), "{secret}\n{err}");
    }
    // Without a home tenant nobody would notice a mistyped client_id.
    let text = std::fs::read_to_string(side.lab.config()).unwrap();
    common::write_private(&side.lab.config(), text.replace(&format!(", home_tenant = \"{HOME}\""), "").as_bytes());
    let check = side.lab.kigen(&["check"]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
    assert!(said.contains("microsoft.consent.home_tenant is not set"), "{said}");
}

#[tokio::test]
async fn at_most_so_many_are_asked_at_once() {
    let ids: Vec<String> = (0..40).map(|n| format!("C{n:02}")).collect();
    let customers: Vec<_> = ids.iter().map(|id| customer(id, AuthMethod::OAuth)).collect();
    let grants: Vec<_> = ids.iter().map(|id| (id.as_str(), full())).collect();
    let side = Side::start(customers, &grants, &consent()).await;
    let bench = side.open().await;
    let (_, report) = bench.scan().await;
    assert_eq!(report.sites.switched, 40);
    let most = side.login.world().lock().most_at_once;
    assert!((1..=kigen::microsoft::AT_ONCE).contains(&most), "{most} at once");
}

#[tokio::test]
async fn a_fleet_that_suddenly_lacks_consent_looks_like_our_mistake() {
    let ids = ["C1", "C2", "C3", "C4"];
    let customers: Vec<_> = ids.iter().map(|id| customer(id, AuthMethod::OAuth)).collect();
    let grants: Vec<_> = ids.iter().map(|id| (*id, full())).collect();
    let side = Side::start(customers, &grants, &consent_at("")).await;
    let bench = side.open().await;
    bench.scan().await;
    ids.iter().for_each(|id| side.set(id, Grant::None));
    bench.go(TimeDelta::days(1));
    assert_eq!(bench.scan().await.1.sites.consent_missing, 4);
    assert_eq!(bench.ctx.store.holds().await.unwrap().len(), 1, "all mail is held until a person has looked");
    bench.pass().await;
    bench.deliver().await;
    assert!(side.lab.told().is_empty());
}
