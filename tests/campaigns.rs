//! Two campaigns in one fleet: what differs is data and wording. The notices of `exchange-online-ews` in every kind and on
//! every day of its life, its configuration, whose turn it is when both are due, and how somebody is done with it.
//!
//! With `KIGEN_NOTICE_OUT=DIR` the rendered parts are also written there, to be looked at in a browser.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/wording.rs"]
mod wording;

use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use common::{Bench, Lab, Settings, affected, write_private};
use kigen::config;
use kigen::daemon::notify::PassReport;
use kigen::daemon::{digest, reload};
use kigen::demo::admin_tool::{WorldCustomer, WorldSite};
use kigen::domain::campaign::{Affects, Campaign, CampaignId, Milestone, Product};
use kigen::domain::case::Evidence;
use kigen::domain::customer::Language;
use kigen::domain::observation::RawSettings;
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::{AuthMethod, ServerType, SiteName};
use kigen::notice::wrap::{COLUMNS, width};
use kigen::notice::{Notice, NoticeSite, Rendered, TemplateError, Templates};
use kigen::store::OutboxFilter;
use wording::{LANGUAGES, customer, notice, parts, show, solid};

const EWS: &str = "exchange-online-ews";
const APP: &str = "1b730954-1685-4b74-9bfd-dac224a7b894";
/// Every kind that occurs; a consent cannot be missing for EWS.
const KINDS: [NoticeKind; 6] = [
    NoticeKind::First,
    NoticeKind::Reminder,
    NoticeKind::Overdue,
    NoticeKind::Resolved,
    NoticeKind::Regressed,
    NoticeKind::Rescheduled,
];

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn campaign() -> Campaign {
    Campaign {
        id: CampaignId(EWS.to_owned()),
        affects: Affects::ExchangeOnline,
        begins: Some(day("2026-10-01")),
        deadline: day("2027-04-01"),
        postponed_to: None,
        last_day: Some(day("2027-04-01")),
        reminders: vec![Milestone { days: 30 }],
        overdue_every: Some(30),
        consent_every: 7,
        source: Some("https://jpmessaging.github.io/blog/exchange-online-ews-your-time-is-almost-up/".to_owned()),
        product: Some(Product { app_id: APP.to_owned(), plan_ja: None, plan_en: None }),
    }
}

fn site(name: &str, kind: NoticeKind) -> NoticeSite {
    let seen = |server, method, texts: (&str, &str)| Evidence {
        observed_at: Utc.with_ymd_and_hms(2026, 11, 23, 21, 0, 3).unwrap(),
        server_type: Some(server),
        auth_method: Some(method),
        raw: RawSettings { server_type: Some(texts.0.to_owned()), auth_method: Some(texts.1.to_owned()) },
    };
    let online = ("Exchange Online に接続する", "OAuth認証 (Office 365の場合)");
    let before = seen(ServerType::ExchangeOnline, AuthMethod::OAuth, online);
    let now = match kind {
        NoticeKind::Resolved => seen(
            ServerType::OnPremises,
            AuthMethod::OnPremisesBasic,
            ("Exchange サーバーに接続する", "基本認証 (オンプレミスの場合)"),
        ),
        _ => before.clone(),
    };
    NoticeSite { name: SiteName::new(name).unwrap(), now, before, gone: false }
}

fn rendered(
    kind: NoticeKind,
    language: Language,
    today: &str,
    change: impl Fn(&mut Campaign),
) -> Result<Rendered, TemplateError> {
    with_sites(kind, language, today, change, |_| {})
}

fn with_sites(
    kind: NoticeKind,
    language: Language,
    today: &str,
    change: impl Fn(&mut Campaign),
    seen: impl Fn(&mut NoticeSite),
) -> Result<Rendered, TemplateError> {
    let mut sites = ["本社", "大阪支社"].map(|name| site(name, kind)).to_vec();
    sites.iter_mut().for_each(seen);
    let mut campaign = campaign();
    change(&mut campaign);
    let customer = customer(language);
    let previous_deadline = (kind == NoticeKind::Rescheduled).then(|| day("2027-03-01"));
    let notice = Notice { previous_deadline, ..notice(kind, &customer, &campaign, sites, day(today)) };
    Templates::load_for(&campaign, None).unwrap().render(&notice)
}

// ---- what the notices say

#[test]
fn every_kind_can_be_proofread() {
    for kind in KINDS {
        for language in LANGUAGES {
            let mut one = rendered(kind, language, "2026-11-24", |_| {}).unwrap();
            if kind == NoticeKind::Overdue {
                // The vendor's own date, before Microsoft's.
                one = rendered(kind, language, "2026-12-08", |c| c.deadline = day("2026-12-01")).unwrap();
            }
            let name = format!("{kind}.{}", language.as_str());
            show(&format!("ews-{name}"), &one);
            insta::assert_snapshot!(format!("{name}.text"), format!("{}\n\n{}", one.subject, one.text));
            for line in one.text.lines() {
                assert!(width(line) <= COLUMNS || line.trim_start().starts_with("http"), "{name}: {line}");
            }
            assert!(width(&one.subject) < 140, "{name}: {}", one.subject);
            assert!(!one.subject.contains("  ") && !one.text.contains("\n\n\n"), "{name}: {}", one.text);
        }
    }
}

#[test]
fn the_templates_pass_their_own_check_with_nothing_of_an_operators() {
    let templates = Templates::load_for(&campaign(), None).unwrap();
    assert_eq!(templates.check(), []);
    assert_eq!(templates.missing_for(Affects::ExchangeOnline), []);
}

#[test]
fn whoever_has_to_act_reads_what_to_do_in_both_parts() {
    let facts: &[(&str, &str, &str)] = &[
        ("the product's id", APP, APP),
        (
            "to read the list first",
            "Get-OrganizationConfig -RetrieveEwsOperationAccessPolicy",
            "Get-OrganizationConfig -RetrieveEwsOperationAccessPolicy",
        ),
        ("to note it down", "表示された内容を控えます", "note down what is shown"),
        ("that the command replaces the whole list", "一覧全体を置き換えます", "replaces the whole list"),
        (
            "that others are shut out",
            "一覧にないアプリケーションはEWSを使用できません",
            "applications that are not on the list cannot use EWS",
        ),
        ("to turn EWS on", "Set-OrganizationConfig -EwsEnabled $true", "Set-OrganizationConfig -EwsEnabled $true"),
        ("how long it takes", "最大24時間", "up to 24 hours"),
        ("kiosk, F1 and F3", "F1またはF3のライセンスだけをお持ちの利用者", "Microsoft 365 F1 or F3 license"),
        ("the mailbox's own setting", "メールボックスのEWSEnabledがFalse", "mailbox has EWSEnabled set to False"),
        ("the other list", "EwsAllowList", "EwsAllowList"),
        ("the day it begins", "2026年10月1日(木)", "1 October 2026 (Thu)"),
        ("the day it ends", "2027年4月1日(木)", "1 April 2027 (Thu)"),
        ("that nobody can see it", "当社からは確認できません", "We cannot see this permission"),
        ("to say when it is done", "以後のご案内を停止いたします", "we will stop sending you these mails"),
        ("the number", "KG-7Q2M-XF4B", "KG-7Q2M-XF4B"),
        ("the sites", "大阪支社", "大阪支社"),
        ("whom to ask", "support@example.jp", "support@example.jp"),
    ];
    for kind in KINDS.into_iter().filter(|kind| *kind != NoticeKind::Resolved) {
        for language in LANGUAGES {
            let one = rendered(kind, language, "2026-11-24", |_| {}).unwrap();
            for (part, text) in parts(&one) {
                for (sentence, ja, en) in facts {
                    let mark = if language == Language::Ja { ja } else { en };
                    assert!(text.contains(&solid(mark)), "{kind} {} {part}: {sentence}", language.as_str());
                }
                for wrong in ["Graph", "Admin Consent", "承諾", "認証方式の変更を"] {
                    assert!(!text.contains(&solid(wrong)), "{kind} {part}: {wrong}");
                }
            }
        }
    }
}

/// On each day of the campaign's life what is true then is said, and what is not true then is not.
#[test]
fn both_dates_are_told_as_of_the_day_of_sending() {
    let rows: &[(&str, &str, &[&str], &[&str])] = &[
        (
            "before Microsoft begins",
            "2026-09-15",
            &[
                "2026年10月1日(木)までに",
                "2026年10月1日(木)からテナントごとに順次無効化し、2027年4月1日(木)に完全に停止します",
                "2026年10月1日(木)からEWSを使用できなくなります",
            ],
            &["開始済み", "至急", "順次行われており"],
        ),
        ("the day it begins", "2026-10-01", &["至急", "開始済み", "（あと182日）"], &["2026年10月1日(木)までに"]),
        (
            "while it goes from tenant to tenant",
            "2026-11-24",
            &[
                "順次行われており",
                "（あと128日）",
                "2027年4月1日(木)の完全停止までは、次の設定で再びご利用いただけ",
                "Set-OrganizationConfig",
            ],
            &["2026年10月1日(木)までに", "停止済み"],
        ),
        (
            "after the end no step helps, so none is asked for",
            "2027-04-01",
            &["2027年4月1日(木)に完全に停止しました", "停止済み", "許可しても、ご利用いただけるようにはなりません"],
            &["Set-OrganizationConfig", "至急", "以後のご案内を停止", "あと0日"],
        ),
    ];
    for (sentence, today, there, not_there) in rows {
        for kind in [NoticeKind::First, NoticeKind::Regressed] {
            let one = rendered(kind, Language::Ja, today, |_| {}).unwrap();
            for (part, text) in parts(&one) {
                for mark in *there {
                    assert!(text.contains(&solid(mark)), "{sentence}, {kind} {part}: {mark}\n{}", one.text);
                }
                for mark in *not_there {
                    assert!(!text.contains(&solid(mark)), "{sentence}, {kind} {part}: NOT {mark}\n{}", one.text);
                }
            }
        }
    }
    let late = rendered(NoticeKind::Overdue, Language::En, "2027-05-01", |_| {}).unwrap();
    assert!(late.subject.contains("turned off for good on 1 April 2027"), "{}", late.subject);
    assert!(!late.text.contains("Set-OrganizationConfig"), "{}", late.text);
}

#[test]
fn the_vendors_plan_is_told_in_its_own_words_and_only_in_its_language() {
    let plan =
        |c: &mut Campaign| c.product.as_mut().unwrap().plan_ja = Some("来年3月までに <移行> します。".to_owned());
    let ja = rendered(NoticeKind::First, Language::Ja, "2026-11-24", plan).unwrap();
    assert!(ja.text.contains("来年3月までに <移行> します。"), "{}", ja.text);
    assert!(ja.html.contains("来年3月までに &lt;移行&gt; します。"));
    let en = rendered(NoticeKind::First, Language::En, "2026-11-24", plan).unwrap();
    assert!(!en.text.contains("移行") && !en.text.contains("What comes next"));
}

#[test]
fn a_consent_notice_is_refused_and_an_operators_own_words_count() {
    let refused = rendered(NoticeKind::Consent, Language::Ja, "2026-11-24", |_| {}).unwrap_err();
    assert!(refused.message.contains("no notice of this kind"), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("_opening.ja.txt"), "弊社からのお知らせです。\n").unwrap();
    let templates = Templates::load_for(&campaign(), Some(dir.path())).unwrap();
    assert_eq!(templates.check(), []);
    let of_basic = Templates::load(Some(dir.path())).unwrap_err();
    assert!(of_basic[0].message.contains("is no template's name"), "{of_basic:?}");
}

#[test]
fn a_site_on_basic_authentication_is_told_that_this_is_not_all() {
    for (method, there) in [(AuthMethod::Basic, true), (AuthMethod::OAuth, false)] {
        let one = with_sites(
            NoticeKind::First,
            Language::Ja,
            "2026-11-24",
            |_| {},
            |site| {
                site.now.auth_method = Some(method);
            },
        );
        for (part, text) in parts(&one.unwrap()) {
            assert_eq!(text.contains("OAuth認証への変更も必要です"), there, "{method:?} {part}");
        }
    }
}

// ---- the configuration

fn load(campaign: &str) -> Result<config::Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let minimal = include_str!("fixtures/config/minimal.toml");
    std::fs::write(&file, format!("{minimal}\n[[campaign]]\n[[campaign]]\n{campaign}\n")).unwrap();
    config::load(&file).map_err(|errors| errors.render(false))
}

fn given(more: &str) -> String {
    format!("id = \"{EWS}\"\napp_id = \"{APP}\"\n{more}")
}

#[test]
fn it_is_off_until_written_and_has_a_default_for_all_but_the_products_id() {
    let config = load(&given("")).unwrap();
    let ids: Vec<&str> = config.campaigns.iter().map(|c| c.campaign.id.0.as_str()).collect();
    assert_eq!(ids, ["exchange-online-basic-auth", EWS]);
    let ews = &config.campaigns[1].campaign;
    assert_eq!((ews.affects, ews.begins), (Affects::ExchangeOnline, Some(day("2026-10-01"))));
    assert_eq!((ews.deadline, ews.last_day, ews.postponed_to), (day("2027-04-01"), Some(day("2027-04-01")), None));
    assert_eq!(ews.reminders.iter().map(|m| m.days).collect::<Vec<_>>(), [120, 90, 60, 30]);
    assert_eq!(ews.overdue_every, None, "nothing helps after the end, so nothing is said");
    assert!(ews.source.as_ref().unwrap().contains("exchange-online-ews"));
    assert_eq!(config.campaigns[0].campaign.product, None);
}

#[test]
fn dates_move_and_what_was_not_written_follows() {
    let one = |more: &str| load(&given(more)).unwrap().campaigns[1].campaign.clone();
    let earlier = one("deadline = 2026-12-15");
    assert_eq!(
        (earlier.begins, earlier.last_day),
        (Some(day("2026-10-01")), Some(day("2027-04-01"))),
        "the vendor's date"
    );
    let later = one("deadline = 2027-07-01");
    assert_eq!(later.last_day, Some(day("2027-07-01")), "Microsoft moved the end");
    assert_eq!(one("deadline = 2026-09-01").begins, None, "before anything begins there is one date less");
    let plan = one("vendor_plan = { ja = \"移行します。\" }\noverdue_every = \"2w\"");
    assert_eq!(plan.product.unwrap().plan(Language::Ja), Some("移行します。"));
    assert_eq!(plan.overdue_every, Some(14));
}

#[test]
fn what_is_wrong_with_it_is_said() {
    let rows = [
        ("no id of the product", format!("id = \"{EWS}\""), "app_id"),
        ("something else", given("").replace(APP, "ExLook"), "no application id"),
        ("the example's zeros", given("").replace(APP, "00000000-0000-0000-0000-000000000000"), "placeholder"),
        ("begins after its end", given("begins = 2027-04-01"), "`begins` (2027-04-01) is not before"),
        ("final before the deadline", given("final = 2027-03-01"), "is not after `deadline`"),
        ("neither days nor off", given("overdue_every = \"never\""), "overdue_every"),
        (
            "a plan of a book's length",
            given(&format!("vendor_plan = {{ ja = \"{}\" }}", "長".repeat(700))),
            "700 characters",
        ),
        (
            "the id where no list is",
            format!("id = \"x\"\naffects = \"basic_auth\"\ndeadline = 2027-01-01\napp_id = \"{APP}\""),
            "says nothing in a campaign",
        ),
    ];
    for (sentence, text, message) in rows {
        let errors = load(&text).map(|_| ()).unwrap_err();
        assert!(errors.contains(message), "{sentence}: {errors}");
    }
}

// ---- two campaigns in one fleet

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn on(id: &str, server: ServerType, method: AuthMethod) -> WorldCustomer {
    WorldCustomer::new(id, vec![WorldSite::new("本社", server, method)])
}

/// B1 is affected twice, O1 by EWS alone, P1 by nothing.
async fn lab() -> Lab {
    let customers = vec![
        affected("B1"),
        on("O1", ServerType::ExchangeOnline, AuthMethod::OAuth),
        on("P1", ServerType::OnPremises, AuthMethod::OnPremisesBasic),
    ];
    let campaign = format!("deadline = 2027-01-15\n[[campaign]]\nid = \"{EWS}\"\napp_id = \"{APP}\"");
    Lab::with(customers, Settings { campaign, business_hours: "closed = []".to_owned(), ..Settings::default() }).await
}

async fn day_of(bench: &Bench, on: &str) -> PassReport {
    bench.clock.set(at(&format!("{on}T10:00:00+09:00")));
    bench.scan().await;
    let report = bench.pass().await;
    bench.deliver().await;
    report
}

/// `customer/campaign kind`, sorted.
fn words(report: &PassReport) -> Vec<String> {
    let word = |n: &kigen::daemon::notify::Notified| {
        let short = if n.planned.campaign.0 == EWS { "ews" } else { "basic" };
        format!("{}/{short} {}", n.planned.customer, n.planned.due.kind)
    };
    let mut all: Vec<String> = report.notices.iter().map(word).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_of_both_gets_one_mail_a_day_and_both_in_the_end() {
    let lab = lab().await;
    let bench = lab.open(at("2026-11-24T10:00:00+09:00")).await;
    let report = day_of(&bench, "2026-11-24").await;
    assert_eq!(words(&report), ["B1/basic first", "O1/ews first"], "the nearer deadline first");
    assert_eq!(words(&bench.pass().await), [""; 0], "the other not on the same day");
    assert_eq!(words(&day_of(&bench, "2026-11-25").await), ["B1/ews first"], "but on the next");
    assert_eq!(words(&day_of(&bench, "2026-11-26").await), [""; 0]);
    assert_eq!(lab.mailed(), ["admin@b1.example", "admin@b1.example", "admin@o1.example"]);

    // The OAuth switch ends one case and not the other; leaving Exchange Online ends that one too.
    lab.world.lock().set_auth_method("B1", "本社", AuthMethod::OAuth);
    day_of(&bench, "2026-11-27").await;
    assert_eq!(words(&day_of(&bench, "2026-11-30").await), ["B1/basic resolved"]);
    let open = bench.ctx.store.open_cases().await.unwrap();
    let open: Vec<String> = open.iter().map(|c| format!("{} {}", c.customer, c.campaign)).collect();
    assert_eq!(open, [format!("B1 {EWS}"), format!("O1 {EWS}")]);
    assert_eq!(words(&day_of(&bench, "2026-12-02").await), ["B1/ews reminder", "O1/ews reminder"], "120 days before");
    assert_eq!(words(&day_of(&bench, "2027-04-01").await), [""; 0], "over: nothing helps");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_done_is_told_no_more_and_what_waits_is_dropped() {
    let lab = lab().await;
    let bench = lab.open(at("2026-11-24T10:00:00+09:00")).await;
    day_of(&bench, "2026-11-24").await;
    bench.clock.set(at("2026-11-25T10:00:00+09:00"));
    bench.scan().await;
    assert_eq!(words(&bench.pass().await), ["B1/ews first"], "queued, not yet sent");
    bench.ctx.store.close().await;
    drop(bench);

    // Both telephoned. B1 also claims what the scan can see for itself.
    lab.write_customers(|_, _| String::new());
    let with_done = |text: &str| {
        let mut lines = text.lines();
        let mut out = format!("{},done\n", lines.next().unwrap());
        for line in lines {
            let done = match line.get(..3) {
                Some("B1,") => format!("{EWS};exchange-online-basic-auth"),
                Some("O1,") => EWS.to_owned(),
                _ => String::new(),
            };
            out.push_str(&format!("{line},{done}\n"));
        }
        out
    };
    let text = std::fs::read_to_string(lab.path("customers.csv")).unwrap();
    write_private(&lab.path("customers.csv"), with_done(&text).as_bytes());
    let bench = lab.open(at("2026-11-25T11:00:00+09:00")).await;
    assert_eq!(bench.deliver().await.sent, 0, "what waited is asked again right before it leaves");
    let dropped = bench.ctx.store.deliveries(&OutboxFilter::default()).await.unwrap();
    let why: Vec<&str> =
        dropped.iter().filter_map(|d| d.detail.as_deref()).filter(|why| why.contains("done")).collect();
    assert_eq!(why.len(), 1, "{why:?}");
    assert_eq!(words(&day_of(&bench, "2026-12-02").await), [""; 0], "the day of both customers' 120 days");
    assert_eq!(words(&day_of(&bench, "2026-12-16").await), ["B1/basic reminder"], "a look is believed, not the word");
    for later in ["2027-01-04", "2027-02-01", "2027-03-02"] {
        assert!(words(&day_of(&bench, later).await).iter().all(|w| w.contains("basic")), "{later}");
    }
    let facts = digest::facts(&bench.ctx, bench.ctx.now()).await.unwrap();
    let left: Vec<(&str, Option<&str>)> =
        facts.to_switch.iter().map(|s| (s.id.as_str(), s.campaign.as_deref())).collect();
    assert_eq!(left, [("B1", Some("exchange-online-basic-auth"))], "nobody who is done is listed");
    let warnings = reload::load(&lab.config()).map(|s| s.done_in_vain()).unwrap_or_default();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("B1") && warnings[0].contains("sees for itself"), "{warnings:?}");
    bench.ctx.store.close().await;

    let check = lab.kigen_ok(&["check"]);
    assert!(check.contains("warning: customer B1: done"), "{check}");
    let calls = lab.kigen_ok(&["report", "calls", "--format", "jsonl"]);
    assert!(!calls.contains(EWS), "who is done is not called: {calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_and_the_digest_name_both() {
    let lab = lab().await;
    let bench = lab.open(at("2026-11-24T10:00:00+09:00")).await;
    day_of(&bench, "2026-11-24").await;
    let facts = digest::facts(&bench.ctx, bench.ctx.now()).await.unwrap();
    let deadlines: Vec<(&str, NaiveDate)> = facts.campaigns.iter().map(|(id, on)| (id.as_str(), *on)).collect();
    assert_eq!(deadlines, [("exchange-online-basic-auth", day("2027-01-15")), (EWS, day("2027-04-01"))]);
    let texts = kigen::alert::digest(&facts, Language::Ja).unwrap();
    assert!(texts.text.contains("O1") && texts.text.contains(&format!("[{EWS}]")), "{}", texts.text);
    bench.ctx.store.close().await;
    drop(bench);

    let check = lab.kigen_ok(&["check"]);
    assert!(check.contains("exchange-online-basic-auth deadline Fri 2027-01-15"), "{check}");
    assert!(
        check.contains(&format!("{EWS} begins Thu 2026-10-01, deadline Thu 2027-04-01; reminders: 120d")),
        "{check}"
    );
    assert!(check.contains("overdue_every = \"off\""), "{check}");

    let plan = lab.kigen_ok(&["plan", "--at", "2026-11-25", "--until", "2027-03-31", "--format", "jsonl"]);
    let b1: Vec<&str> = plan.lines().filter(|line| line.contains("\"B1\"")).collect();
    assert!(b1.iter().any(|l| l.contains(EWS)) && b1.iter().any(|l| l.contains("basic-auth")), "{plan}");

    let preview =
        |campaign: &str| lab.kigen_ok(&["preview", "--customer", "O1", "--kind", "first", "--campaign", campaign]);
    assert!(preview(EWS).contains(APP));
    assert!(preview("exchange-online-basic-auth").contains("OAuth認証"));
    let none = lab.kigen(&["preview", "--customer", "O1", "--kind", "consent", "--campaign", EWS]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("no notice of this kind"));

    let status = lab.kigen_ok(&["status", "--format", "json"]);
    assert!(status.contains(EWS) && status.contains("exchange-online-basic-auth"), "{status}");
}
