//! Which facts each kind of notice must hold, which it must not, and from which day to which.

use chrono::NaiveDate;
use kigen::domain::customer::Language;
use kigen::domain::plan::NoticeKind;

use super::wording::{LANGUAGES, parts, show};
use super::{Given, assert_marks, assert_marks_in, day, given};

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
