//! Every notice as its reader gets it: snapshots to proofread, and the facts that each kind must and must not hold.
//!
//! With `KIGEN_NOTICE_OUT=DIR` the rendered parts are also written there, to be looked at in a browser.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

#[path = "notices/facts.rs"]
mod facts;
#[path = "notices/templates.rs"]
mod templates;
#[path = "common/wording.rs"]
mod wording;

use chrono::{NaiveDate, TimeZone, Utc};
use kigen::domain::campaign::{Affects, Campaign, CampaignId, Milestone};
use kigen::domain::case::Evidence;
use kigen::domain::customer::{Customer, Language};
use kigen::domain::observation::RawSettings;
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::{AuthMethod, ServerType, SiteName};
use kigen::notice::wrap::{COLUMNS, width};
use kigen::notice::{Notice, NoticeSite, Rendered, Templates};

use self::wording::{LANGUAGES, customer, notice, parts, show, solid};

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
    let sites = match language {
        Language::Ja => ["本社", "大阪支社", "福岡営業所"],
        Language::En => ["Head office", "Osaka", "Fukuoka"],
    };
    Given {
        customer: customer(language),
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
        let usual = notice(kind, &self.customer, &self.campaign, self.sites.clone(), self.today);
        let usual = Notice { federated: self.federated, ..usual };
        templates.render(&match kind {
            NoticeKind::Rescheduled => {
                Notice { deadline: day(2022, 12, 31), previous_deadline: Some(self.campaign.deadline), ..usual }
            }
            _ => usual,
        })
    }
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
