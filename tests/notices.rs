//! Every notice as its reader gets it: snapshots to proofread, and the facts that each kind must and must not hold.
//!
//! With `KIGEN_NOTICE_OUT=DIR` the rendered parts are also written there, to be looked at in a browser.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;

use chrono::{NaiveDate, TimeZone, Utc};
use kigen::config::Support;
use kigen::domain::campaign::{Affects, Campaign, CampaignId, Milestone};
use kigen::domain::case::{Evidence, Reference};
use kigen::domain::customer::{Address, Customer, Language};
use kigen::domain::observation::RawSettings;
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};
use kigen::notice::wrap::{COLUMNS, width};
use kigen::notice::{Notice, NoticeSite, Rendered, Templates};
use url::Url;

const LANGUAGES: [Language; 2] = [Language::Ja, Language::En];

/// Everything that a notice is made from, to be changed by a test before it renders.
#[derive(Clone)]
struct Given {
    customer: Customer,
    campaign: Campaign,
    sites: Vec<NoticeSite>,
    today: NaiveDate,
    federated: Option<bool>,
}

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

fn evidence(method: AuthMethod, (year, month, day, hour): (i32, u32, u32, u32)) -> Evidence {
    let text = match method {
        AuthMethod::Basic => "基本認証 (Office 365の場合)",
        AuthMethod::OAuth => "OAuth認証 (Office 365の場合)",
        AuthMethod::OnPremisesBasic => "基本認証 (オンプレミスの場合)",
    };
    Evidence {
        observed_at: Utc.with_ymd_and_hms(year, month, day, hour, 0, 3).unwrap(),
        server_type: Some(ServerType::ExchangeOnline),
        auth_method: Some(method),
        raw: RawSettings {
            server_type: Some("Exchange Online に接続する".to_owned()),
            auth_method: Some(text.to_owned()),
        },
    }
}

fn site(name: &str, kind: NoticeKind) -> NoticeSite {
    let seen = (2022, 8, 31, 21);
    let (now, before) = match kind {
        NoticeKind::Resolved => (evidence(AuthMethod::OAuth, (2022, 9, 18, 21)), evidence(AuthMethod::Basic, seen)),
        NoticeKind::Consent => (evidence(AuthMethod::OAuth, seen), evidence(AuthMethod::OAuth, seen)),
        _ => (evidence(AuthMethod::Basic, seen), evidence(AuthMethod::Basic, seen)),
    };
    NoticeSite { name: SiteName::new(name).unwrap(), now, before, gone: false }
}

/// A usual customer on a usual day of the kind.
fn given(kind: NoticeKind, language: Language) -> Given {
    let (name, contact, sites) = match language {
        Language::Ja => ("株式会社サンプル商事", "情報システム部 山田 太郎", ["本社", "大阪支社", "福岡営業所"]),
        Language::En => ("Sample Trading KK", "Taro Yamada", ["Head office", "Osaka", "Fukuoka"]),
    };
    Given {
        customer: Customer {
            id: CustomerId::new("C0001").unwrap(),
            name: name.to_owned(),
            email: vec![Address::new("taro@customer.example").unwrap()],
            contact_name: Some(contact.to_owned()),
            cc: Vec::new(),
            fallback_email: Vec::new(),
            phone: None,
            language,
            tenant_domain: None,
            feature_phone: None,
            smartphone: None,
            opted_out: false,
            done: Vec::new(),
            notify: true,
            sites: Vec::new(),
        },
        campaign: Campaign {
            id: CampaignId("exchange-online-basic-auth".to_owned()),
            affects: Affects::BasicAuth,
            begins: None,
            deadline: day(2022, 10, 1),
            postponed_to: Some(day(2022, 12, 31)),
            last_day: Some(day(2023, 1, 1)),
            reminders: vec![Milestone { days: 30 }, Milestone { days: 7 }],
            overdue_every: Some(7),
            consent_every: 7,
            product: None,
            source: Some(
                "https://jpmessaging.github.io/blog/basic-authentication-deprecation-in-exchange-online-september/"
                    .to_owned(),
            ),
        },
        sites: sites.iter().map(|name| site(name, kind)).collect(),
        today: match kind {
            NoticeKind::Overdue => day(2022, 10, 11),
            NoticeKind::Rescheduled => day(2022, 9, 26),
            _ => day(2022, 9, 19),
        },
        federated: None,
    }
}

impl Given {
    fn render(&self, kind: NoticeKind) -> Rendered {
        self.render_with(kind, &Templates::built_in()).unwrap()
    }

    fn render_with(&self, kind: NoticeKind, templates: &Templates) -> Result<Rendered, kigen::notice::TemplateError> {
        let moved = kind == NoticeKind::Rescheduled;
        templates.render(&Notice {
            kind,
            customer: &self.customer,
            reference: &Reference("KG-7Q2M-XF4B".to_owned()),
            sites: self.sites.clone(),
            campaign: &self.campaign,
            deadline: if moved { day(2022, 12, 31) } else { self.campaign.deadline_of(&self.customer) },
            previous_deadline: moved.then_some(self.campaign.deadline),
            today: self.today,
            noticed_on: self.today,
            federated: self.federated,
            support: &Support {
                name: "ExLook サポート窓口".to_owned(),
                email: Some(Address::new("support@example.jp").unwrap()),
                phone: Some("03-0000-0000".to_owned()),
            },
            logon_url: &Url::parse("https://www.exlook.net/exlookconfig/logon.aspx").unwrap(),
            portal_url: &Url::parse("https://portal.bbsonlineservices.net/").unwrap(),
            zone: chrono_tz::Asia::Tokyo,
        })
    }
}

/// Writes a notice where a person asked for it.
fn show(name: &str, rendered: &Rendered) {
    if let Some(dir) = std::env::var_os("KIGEN_NOTICE_OUT") {
        let dir = Path::new(&dir);
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(format!("{name}.html")), &rendered.html).unwrap();
        std::fs::write(dir.join(format!("{name}.txt")), format!("{}\n\n{}", rendered.subject, rendered.text)).unwrap();
    }
}

#[test]
fn every_kind_can_be_proofread() {
    for kind in NoticeKind::ALL {
        for language in LANGUAGES {
            let name = format!("{kind}.{}", language.as_str());
            let rendered = given(kind, language).render(kind);
            show(&name, &rendered);
            insta::assert_snapshot!(format!("{name}.text"), format!("{}\n\n{}", rendered.subject, rendered.text));
            insta::assert_snapshot!(format!("{name}.html"), rendered.html);
        }
    }
}

#[test]
fn the_built_in_templates_pass_their_own_check() {
    let errors = Templates::built_in().check();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// What a reader sees of the HTML part: no tags, no style, entities as characters, one space for white space.
fn visible(html: &str) -> String {
    let page = scraper::Html::parse_document(html);
    let body = scraper::Selector::parse("body").unwrap();
    page.select(&body).flat_map(|body| body.text()).collect()
}

/// Without white space, so that a line's end does not hide a sentence.
fn solid(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The mark by which a fact is recognised in Japanese and in English; several stand for one fact told in several ways.
const FACTS: &[(&str, &[&str], &[&str])] = &[
    (
        "W1",
        &["Microsoftは、Exchange Onlineの基本認証を2022年10月1日(土)から"],
        &["basic authentication for Exchange Online", "1 October 2022 (Sat)"],
    ),
    ("W2", &["Exchange Web Services"], &["Exchange Web Services"]),
    ("W3", &["ExLook Onlineにログオンでき"], &["log on to ExLook Online"]),
    (
        "W4",
        &[
            "https://docs.microsoft.com/ja-jp/exchange/clients-and-mobile-in-exchange-online/deprecation-of-basic-authentication-exchange-online",
            "https://jpmessaging.github.io/blog/basic-authentication-deprecation-in-exchange-online-september/",
            "https://blogs.windows.com/japan/2022/09/26/important-notice-discontinuation-of-basic-authentication-for-exchange-online/",
        ],
        &[
            "https://docs.microsoft.com/ja-jp/exchange/clients-and-mobile-in-exchange-online/deprecation-of-basic-authentication-exchange-online",
            "https://jpmessaging.github.io/blog/basic-authentication-deprecation-in-exchange-online-september/",
            "https://blogs.windows.com/japan/2022/09/26/important-notice-discontinuation-of-basic-authentication-for-exchange-online/",
        ],
    ),
    (
        "W5",
        &["本社", "大阪支社", "福岡営業所", "2022年9月1日 06:00"],
        &["Head office", "Osaka", "Fukuoka", "1 Sep 2022 06:00 JST"],
    ),
    ("W6", &["2022年10月1日(土)", "あと12日"], &["1 October 2022 (Sat)", "12 days left"]),
    (
        "C1",
        &["[Exchange サーバーの種類]", "[Exchange Online に接続する]"],
        &[
            "[Exchange サーバーの種類] (Exchange server type)",
            "[Exchange Online に接続する] (connects to Exchange Online)",
        ],
    ),
    (
        "C2",
        &["[Exchange サーバーの認証方式]", "[基本認証 (Office 365の場合)]"],
        &[
            "[Exchange サーバーの認証方式] (Exchange server authentication method)",
            "[基本認証 (Office 365の場合)] (basic authentication, for Office 365)",
        ],
    ),
    (
        "C3",
        &["どちらか一方でもあてはまらないサイトでは、作業は必要ありません"],
        &["Where either does not apply, nothing has to be done"],
    ),
    (
        "K1",
        &["ExLook管理ツールに管理者アカウントでログオンし", "https://www.exlook.net/exlookconfig/logon.aspx"],
        &["ExLook管理ツール", "with an administrator account", "https://www.exlook.net/exlookconfig/logon.aspx"],
    ),
    (
        "K2",
        &["[ExLookサイト設定]タブの[ExLookサイト名]で、確認するサイト"],
        &["[ExLookサイト設定] (ExLook site settings) tab, choose the site in [ExLookサイト名] (ExLook site name)"],
    ),
    (
        "K3",
        &["[Exchange設定]で、上記の2つの設定を確認します"],
        &["Look at the two settings under [Exchange設定] (Exchange settings)"],
    ),
    (
        "S1",
        &[
            "[ExLookサイト設定]タブの[ExLookサイト名]で対象のサイトを選択します",
            "https://www.exlook.net/exlookconfig/logon.aspx",
        ],
        &[
            "[ExLookサイト設定] (ExLook site settings) tab, choose the site in [ExLookサイト名]",
            "https://www.exlook.net/exlookconfig/logon.aspx",
        ],
    ),
    (
        "S2",
        &["[Exchange設定] → [Exchange サーバーの認証方式]で、[OAuth認証 (Office 365の場合)]を選択します"],
        &["choose [OAuth認証 (Office 365の場合)] (OAuth authentication, for Office 365)"],
    ),
    (
        "S3",
        &["[設定内容を保存]を押します。設定はすぐに反映されます"],
        &["Press [設定内容を保存] (Save settings). It takes effect at once"],
    ),
    (
        "S4",
        &["製品管理サイトに管理者アカウントでログオンします", "https://portal.bbsonlineservices.net/"],
        &["製品管理サイト", "Log on with an administrator account", "https://portal.bbsonlineservices.net/"],
    ),
    ("S5", &["[管理] → [ExLook]"], &["[管理] (Administration) → [ExLook]"]),
    (
        "S6",
        &["[Admin Consent]を押します", "グローバル管理者でサインインし", "[承諾]を押します"],
        &["press [Admin Consent]", "global administrator (グローバル管理者)", "press [承諾] (Accept)"],
    ),
    ("S7", &["同意の画面を閉じます"], &["Close the consent page"]),
    ("S8", &["テナント全体で1回だけ"], &["once for your whole tenant"]),
    ("R1", &["[設定内容を保存]を押すと、すぐに元の設定に戻ります"], &["takes the setting back"]),
    (
        "F1",
        &[
            "パスワードハッシュ同期",
            "Azure AD",
            "Microsoft Entra ID",
            "管理者ガイド 第6章",
            "ホーム領域検出ポリシーの構成",
            "リソース所有者のパスワード資格情報",
            "直接 ROPC 認証",
        ],
        &[
            "パスワードハッシュ同期",
            "Azure AD",
            "Microsoft Entra ID",
            "chapter 6",
            "Home Realm Discovery policy",
            "Resource Owner Password Credentials",
            "direct ROPC authentication",
        ],
    ),
    ("F2", &["利用者ガイド（スマートフォン・OAuth認証版）", "3.1節"], &["スマートフォン・OAuth認証版", "section 3.1"]),
    (
        "L1",
        &["会議出席依頼に返信するときの宛先の変更"],
        &["changing the recipients when replying to a meeting request"],
    ),
    ("L2", &["開封確認を求めるメールの開封"], &["opening mails that request a read receipt"]),
    ("L3", &["グローバルアドレス一覧の検索"], &["searching the global address list"]),
    ("L4", &["タスクの達成率の表示と更新"], &["showing and updating the completion rate of tasks"]),
    ("L5", &["メモの表示と更新"], &["showing and updating notes"]),
    ("L6", &["ご不便をおかけし、誠に申し訳ございません"], &["We apologize for the inconvenience"]),
    (
        "E1",
        &["ExLook サポート窓口", "support@example.jp", "03-0000-0000"],
        &["ExLook サポート窓口", "support@example.jp", "03-0000-0000"],
    ),
    (
        "E2",
        &["自動でお送りしています", "お問い合わせ番号：KG-7Q2M-XF4B"],
        &["sent automatically", "Reference number: KG-7Q2M-XF4B"],
    ),
];

/// Which facts belong to which kind, on the usual day of [`given`].
const BELONGS: &[(NoticeKind, &str)] = &[
    (NoticeKind::First, "W1 W2 W3 W4 W5 W6 C1 C2 C3 K1 K2 K3 S1 S2 S3 S4 S5 S6 S7 S8 R1 F1 F2 L1 L2 L3 L4 L5 L6 E1 E2"),
    (NoticeKind::Reminder, "W1 W2 W3 W4 W5 W6 C1 C2 K1 S1 S2 S3 S4 S5 S6 S7 S8 R1 F1 F2 E1 E2"),
    (NoticeKind::Overdue, "W1 W2 W3 W5 S1 S2 S3 S4 S5 S6 S7 S8 E1 E2"),
    (NoticeKind::Consent, "W3 W5 S4 S5 S6 S7 S8 R1 E1 E2"),
    (NoticeKind::Resolved, "W5 L1 L2 L3 L4 L5 R1 E1 E2"),
    (NoticeKind::Regressed, "W1 W2 W3 W4 W5 W6 C1 C2 K1 S1 S2 S3 S4 S5 S6 S7 S8 R1 F1 F2 E1 E2"),
    (NoticeKind::Rescheduled, "W5 S1 S2 S3 S4 S5 S6 S7 S8 E1 E2"),
];

/// Facts that must not stand where they do not belong: expiring and conditional ones, and the long check.
const NEVER_ELSEWHERE: &str = "W2 R1 F1 F2 K3 C3 W4";

fn marks(fact: &str, language: Language) -> &'static [&'static str] {
    let (_, ja, en) = FACTS.iter().find(|(id, ..)| *id == fact).unwrap();
    match language {
        Language::Ja => ja,
        Language::En => en,
    }
}

/// Both parts, each as its reader sees it, for looking something up.
fn parts(rendered: &Rendered) -> [(&'static str, String); 2] {
    // Quotation marks are typographic in HTML.
    let html = visible(&rendered.html).replace(['“', '”'], "\"").replace('’', "'");
    [("text", solid(&rendered.text)), ("html", solid(&html))]
}

fn assert_marks(rendered: &Rendered, marks: &[&str], present: bool, about: &str) {
    assert_marks_in(&parts(rendered), marks, present, about);
}

fn assert_marks_in(parts: &[(&'static str, String)], marks: &[&str], present: bool, about: &str) {
    for (part, body) in parts {
        for mark in marks {
            assert_eq!(body.contains(&solid(mark)), present, "{about}, {part}: {mark}");
        }
    }
}

#[test]
fn each_kind_holds_its_facts_and_no_others() {
    for &(kind, facts) in BELONGS {
        for language in LANGUAGES {
            let rendered = given(kind, language).render(kind);
            let parts = parts(&rendered);
            for fact in facts.split(' ') {
                assert_marks_in(&parts, marks(fact, language), true, &format!("{kind} {} {fact}", language.as_str()));
            }
            for fact in NEVER_ELSEWHERE.split(' ').filter(|f| !facts.split(' ').any(|g| g == *f)) {
                let first = &marks(fact, language)[..1];
                assert_marks_in(&parts, first, false, &format!("{kind} {} {fact}", language.as_str()));
            }
        }
    }
}

#[test]
fn each_kind_says_its_own_dates() {
    let rows: &[(NoticeKind, &[&str], &[&str])] = &[
        (NoticeKind::Overdue, &["2022年10月1日(土)", "10日過ぎて"], &["1 October 2022 (Sat)", "10 days ago"]),
        (
            NoticeKind::Resolved,
            &["[基本認証 (Office 365の場合)]", "[OAuth認証 (Office 365の場合)]", "2022年9月19日 06:00"],
            &["[OAuth認証 (Office 365の場合)]", "19 Sep 2022 06:00 JST"],
        ),
        (NoticeKind::Regressed, &["2022年9月19日(月)の確認で"], &["on 19 September 2022 (Mon) we noticed"]),
        (
            NoticeKind::Rescheduled,
            &["2022年10月1日(土)から2022年12月31日(土)に", "あと96日"],
            &["from 1 October 2022 (Sat) to 31 December 2022 (Sat)", "96 days"],
        ),
    ];
    for &(kind, ja, en) in rows {
        assert_marks(&given(kind, Language::Ja).render(kind), ja, true, kind.as_str());
        assert_marks(&given(kind, Language::En).render(kind), en, true, kind.as_str());
    }
}

#[test]
fn facts_that_expire_are_shown_only_while_they_hold() {
    let phrases = [
        ("opting out", "オプトアウト", "opt out"),
        ("turning on again", "一度に1つずつ", "one at a time"),
        (
            "off for good",
            "延期することはできず、どなたも再び有効にすることはできません",
            "It cannot be postponed, and nobody can turn it on again",
        ),
        ("the way back", "すぐに元の設定に戻ります", "takes the setting back"),
        ("whom to call", "へご連絡ください", "Please contact ExLook"),
        ("will be turned off", "順次無効化します。", "tenant by tenant, from"),
        ("is being turned off", "順次無効化しています。", "tenant by tenant, since"),
        ("has been turned off", "完全に無効化しました。", "turned it off for good in"),
        ("will be locked out", "ログオンできなくなります。", "will no longer be able to log on"),
        (
            "are locked out",
            "無効化はすでに完了しており、基本認証のままのサイトでは、利用者の皆様がExLook Onlineにログオンできません。",
            "has turned basic authentication off for good. Users of a site that still uses it cannot log on",
        ),
    ];
    let rows: [(&str, NaiveDate, &[&str]); 5] = [
        (
            "the last day of opting out",
            day(2022, 9, 30),
            &["opting out", "the way back", "will be turned off", "will be locked out"],
        ),
        ("the day it begins", day(2022, 10, 1), &["turning on again", "the way back", "is being turned off"]),
        (
            "the last day of turning on again",
            day(2022, 12, 31),
            &["turning on again", "the way back", "is being turned off"],
        ),
        ("the final day", day(2023, 1, 1), &["off for good", "whom to call", "has been turned off", "are locked out"]),
        ("years later", day(2026, 11, 1), &["off for good", "whom to call", "has been turned off", "are locked out"]),
    ];
    for kind in [NoticeKind::First, NoticeKind::Regressed] {
        for (sentence, today, holds) in rows {
            for language in LANGUAGES {
                let rendered = Given { today, ..given(kind, language) }.render(kind);
                let parts = parts(&rendered);
                show(&format!("{kind}.{}.{today}", language.as_str()), &rendered);
                for (fact, ja, en) in phrases {
                    let phrase = if language == Language::Ja { ja } else { en };
                    let about = format!("{kind} {}, {sentence}: {fact}", language.as_str());
                    assert_marks_in(&parts, &[phrase], holds.contains(&fact), &about);
                }
            }
        }
    }
}

#[test]
fn an_overdue_notice_offers_nothing_that_is_gone() {
    for (today, again) in [(day(2022, 12, 31), true), (day(2023, 1, 4), false)] {
        let rendered = Given { today, ..given(NoticeKind::Overdue, Language::Ja) }.render(NoticeKind::Overdue);
        assert_marks(&rendered, &["Exchange Web Services"], again, "turning on again");
        assert_marks(&rendered, &["すぐに元の設定に戻ります"], false, "the way back");
        assert_marks(&rendered, &["へご連絡ください"], !again, "whom to call");
    }
}

#[test]
fn phones_are_spoken_of_where_they_may_be_used() {
    let uses = [None, Some(false), Some(true)];
    for kind in [NoticeKind::First, NoticeKind::Reminder, NoticeKind::Regressed] {
        for language in LANGUAGES.into_iter().take(if kind == NoticeKind::First { 2 } else { 1 }) {
            for (feature_phone, smartphone, federated) in
                uses.into_iter().flat_map(|a| uses.into_iter().flat_map(move |b| uses.map(move |c| (a, b, c))))
            {
                let mut one = given(kind, language);
                one.customer.feature_phone = feature_phone;
                one.customer.smartphone = smartphone;
                one.federated = federated;
                let rendered = one.render(kind);
                let parts = parts(&rendered);
                let about = format!(
                    "{kind}: feature phone {feature_phone:?}, smartphone {smartphone:?}, federated {federated:?}"
                );
                let f1 = feature_phone != Some(false) && federated != Some(false);
                assert_marks_in(&parts, &marks("F1", language)[..1], f1, &about);
                assert_marks_in(&parts, &marks("F2", language)[..1], smartphone != Some(false), &about);
            }
        }
    }
}

#[test]
fn a_customer_that_opted_out_is_told_its_own_deadline() {
    let mut one = given(NoticeKind::First, Language::Ja);
    one.customer.opted_out = true;
    let rendered = one.render(NoticeKind::First);
    assert!(rendered.subject.contains("2022年12月31日(土)"), "{}", rendered.subject);
    assert_marks(&rendered, &["2022年12月31日(土)までに（あと103日）", "オプトアウト）がお済み"], true, "opted out");
}

#[test]
fn a_resolved_notice_says_only_what_holds_for_its_sites() {
    let kind = NoticeKind::Resolved;
    let mut one = given(kind, Language::Ja);
    for site in &mut one.sites {
        site.gone = true;
    }
    let rendered = one.render(kind);
    assert_marks(&rendered, &["一覧に表示されなくなりました"], true, "gone");
    assert_marks(&rendered, &["メモの表示と更新", "元の設定に戻ります"], false, "gone");
    one.sites.clear();
    assert_marks(&one.render(kind), &["メモの表示と更新", "元の設定に戻ります"], true, "no site is named");
}

#[test]
fn the_parts_keep_their_form() {
    for kind in NoticeKind::ALL {
        for language in LANGUAGES {
            for hard in [false, true] {
                let mut one = given(kind, language);
                if hard {
                    one.customer.name = "W".repeat(300);
                    one.customer.contact_name = Some("長い名前".repeat(75));
                    one.sites = vec![site(&"<script>\"'&".repeat(27), kind), site(&"ー".repeat(300), kind)];
                }
                let rendered = one.render(kind);
                if hard {
                    show(&format!("{kind}.{}.hard", language.as_str()), &rendered);
                }
                for line in rendered.text.lines() {
                    let link = line.trim_start().starts_with("https://");
                    assert!(link || width(line) <= COLUMNS, "{kind}: {line}");
                    assert_eq!(line, line.trim_end(), "{kind}");
                }
                assert!(rendered.text.ends_with('\n') && !rendered.text.contains(['\r', '\t']));
                assert!(width(&rendered.subject) <= 150, "{}", rendered.subject);
                assert!(rendered.subject.contains("KG-7Q2M-XF4B"));
                let html = rendered.html.to_lowercase();
                for banned in
                    ["<script", "<img", "<link", "<form", "<iframe", "@import", "url(", "src=", "http://", "onload"]
                {
                    assert!(!html.contains(banned), "{kind}: {banned}");
                }
                assert!(rendered.html.starts_with("<!DOCTYPE html>\n"), "{:?}", &rendered.html[..40]);
                assert!(html.contains(&format!("<html lang=\"{}\">", language.as_str())));
                assert_eq!(html.matches("<h1").count(), 1);
                assert!(rendered.html.len() < 40_000, "{kind}: {}", rendered.html.len());
                assert!(rendered.html.lines().all(|line| line.len() < 4000));
                assert!(rendered.attachments.is_empty());
            }
        }
    }
}

#[test]
fn names_are_data_and_nothing_else() {
    let mut one = given(NoticeKind::First, Language::Ja);
    one.customer.name = "<b>太字</b> & \"Söhne\" {{ reference }} \u{202E}moc.elpmaxe".to_owned();
    one.customer.contact_name = Some("O'Hara 様".to_owned());
    one.sites = vec![site("<script>alert(1)</script>\u{2066}", NoticeKind::First)];
    let rendered = one.render(NoticeKind::First);
    assert!(
        rendered.text.starts_with("<b>太字</b> & \"Söhne\" {{ reference }} moc.elpmaxe\nO'Hara 様\n"),
        "{}",
        rendered.text
    );
    assert!(
        rendered
            .html
            .contains("&lt;b&gt;太字&lt;/b&gt; &amp; &quot;Söhne&quot; {{ reference }} moc.elpmaxe<br>O&#39;Hara 様")
    );
    assert!(rendered.html.contains("&lt;script&gt;alert(1)&lt;/script&gt;</td>"));
    assert!(!rendered.html.contains(['\u{202E}', '\u{2066}']) && !rendered.text.contains(['\u{202E}', '\u{2066}']));
}

#[test]
fn a_long_list_is_cut_and_attached() {
    let mut one = given(NoticeKind::First, Language::Ja);
    one.sites = (1..=20).map(|n| site(&format!("サイト{n}"), NoticeKind::First)).collect();
    let twenty = one.render(NoticeKind::First);
    assert!(twenty.attachments.is_empty() && !twenty.text.contains("ほか 1"));
    assert!(twenty.html.len() < 40_000, "{}", twenty.html.len());
    one.sites.extend((21..=500).map(|n| site(&format!("=サイト{n}"), NoticeKind::First)));
    let rendered = one.render(NoticeKind::First);
    assert_marks(&rendered, &["ほか 480 サイト", "添付の sites-KG-7Q2M-XF4B.csv"], true, "500 sites");
    assert!(rendered.subject.contains("サイト1 ほか499サイト"), "{}", rendered.subject);
    assert!(rendered.text.contains("・サイト20（") && !rendered.text.contains("サイト21"));
    let [list] = &rendered.attachments[..] else { panic!("one file") };
    assert_eq!((&*list.name, &*list.content_type), ("sites-KG-7Q2M-XF4B.csv", "text/csv; charset=utf-8"));
    let text = std::str::from_utf8(&list.content).unwrap();
    let mut lines = text.split("\r\n");
    assert_eq!(lines.next(), Some("\u{FEFF}サイト名,サーバーの種類,認証方式,確認日時"));
    assert_eq!(lines.next(), Some("サイト1,Exchange Online に接続する,基本認証 (Office 365の場合),2022年9月1日 06:00"));
    assert_eq!(
        lines.nth(498),
        Some("'=サイト500,Exchange Online に接続する,基本認証 (Office 365の場合),2022年9月1日 06:00")
    );
    assert_eq!(lines.next(), Some(""));
}

/// A directory with one template of the operator's own.
fn own(name: &str, source: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), source).unwrap();
    dir
}

#[test]
fn an_operators_template_replaces_one_and_only_one() {
    let dir = own("_ending.ja.txt", "\u{FEFF}弊社\r\n番号：{{ reference }}\r\n");
    std::fs::write(dir.path().join(".hidden"), "").unwrap();
    std::fs::write(dir.path().join("first.ja.txt~"), "").unwrap();
    let templates = Templates::load(Some(dir.path())).unwrap();
    assert_eq!(templates.check(), []);
    let rendered = given(NoticeKind::First, Language::Ja).render_with(NoticeKind::First, &templates).unwrap();
    assert!(rendered.text.ends_with("\n\n弊社\n番号：KG-7Q2M-XF4B\n"), "{}", rendered.text);
    assert!(rendered.html.contains("ExLook サポート窓口"));
}

#[test]
fn templates_that_cannot_be_used_say_which_line_and_why() {
    let rows = [
        ("a name that is none", "frist.ja.txt", "x", "frist.ja.txt", 0, "did you mean first.ja.txt?"),
        ("a name like no other", "readme.md", "x", "readme.md", 0, "is no template's name"),
        ("a tag that is not closed", "first.ja.txt", "a\n{% if x %}\n", "first.ja.txt", 2, "syntax error"),
        (
            "a value that there is not",
            "first.ja.txt",
            "{{ reference }}\n{{ compnay }}\n",
            "first.ja.txt",
            2,
            "undefined value",
        ),
        ("a fault inside a shared part", "_lost.ja.txt", "\n\n{{ nothing }}", "_lost.ja.txt", 3, "undefined value"),
        (
            "an endless loop",
            "first.ja.txt",
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "first.ja.txt",
            1,
            "fuel",
        ),
        ("a subject of two lines", "first.ja.subject", "a\nBcc: b@example.jp", "first.ja.subject", 0, "line break"),
        (
            "a subject with a carriage return",
            "first.ja.subject",
            "a{{ '\\r' }}b",
            "first.ja.subject",
            0,
            "control character",
        ),
        ("an empty subject", "first.ja.subject", "\n", "first.ja.subject", 0, "empty subject"),
        ("no reference number", "first.ja.txt", "a", "first.ja.txt", 0, "{{ reference }}"),
        ("a script", "first.ja.html", "<SCRIPT></SCRIPT>{{ reference }}", "first.ja.html", 0, "holds a script"),
    ];
    for (sentence, name, source, template, line, message) in rows {
        let dir = own(name, source);
        let given = given(NoticeKind::First, Language::Ja);
        let errors = match Templates::load(Some(dir.path())) {
            Ok(templates) => given.render_with(NoticeKind::First, &templates).err().into_iter().collect(),
            Err(errors) => errors,
        };
        let [error] = &errors[..] else { panic!("{sentence}: {errors:#?}") };
        assert_eq!((&*error.template, error.line), (template, line), "{sentence}: {error}");
        assert!(error.message.contains(message), "{sentence}: {error}");
    }
    assert!(Templates::load(Some(Path::new("/nonexistent/templates"))).is_err());
}

#[test]
fn a_check_finds_what_only_some_customers_would_meet() {
    let dir = own("_some.ja.txt", "{% if not smartphone and not feature_phone %}{{ nothing }}{% endif %}");
    std::fs::write(dir.path().join("overdue.en.html"), "{{ reference }}{% if off %}{{ nothing }}{% endif %}").unwrap();
    let errors: Vec<String> =
        Templates::load(Some(dir.path())).unwrap().check().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "template _some.ja.txt, line 1, column 49: undefined value: `nothing` is undefined",
            "template overdue.en.html, line 1, column 31: undefined value: `nothing` is undefined",
        ]
    );
}

#[test]
fn output_is_bounded() {
    let big = "x".repeat(200_000);
    let dir = own("first.ja.txt", &format!("{{% for a in range(20) %}}{big}{{% endfor %}}"));
    let templates = Templates::load(Some(dir.path())).unwrap();
    let error = given(NoticeKind::First, Language::Ja).render_with(NoticeKind::First, &templates).unwrap_err();
    assert!(error.message.contains("fuel") || error.message.contains("bytes of output"), "{error}");
}

#[test]
fn another_deprecation_needs_its_operators_own_words() {
    let mut one = given(NoticeKind::First, Language::Ja);
    one.campaign.affects = Affects::ExchangeOnline;
    let refused = one.render_with(NoticeKind::First, &Templates::built_in()).unwrap_err();
    assert!(refused.message.contains("exchange_online"), "{refused}");
    assert_eq!(Templates::built_in().missing_for(Affects::ExchangeOnline).len(), 42);
    assert_eq!(Templates::built_in().missing_for(Affects::BasicAuth), []);
}
