//! Every notice as its reader gets it: snapshots to proofread, and the facts that each kind must and must not hold.
//!
//! With `KIGEN_NOTICE_OUT=DIR` the rendered parts are also written there, to be looked at in a browser.

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
        NoticeKind::Resolved => {
            (evidence(AuthMethod::OAuth, (2022, 9, 18, 21)), evidence(AuthMethod::Basic, seen))
        }
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
            notify: true,
            sites: Vec::new(),
        },
        campaign: Campaign {
            id: CampaignId("exchange-online-basic-auth".to_owned()),
            affects: Affects::BasicAuth,
            deadline: day(2022, 10, 1),
            postponed_to: Some(day(2022, 12, 31)),
            last_day: Some(day(2023, 1, 1)),
            reminders: vec![Milestone { days: 30 }, Milestone { days: 7 }],
            overdue_every: 7,
            consent_every: 7,
            source: Some("https://jpmessaging.github.io/blog/basic-authentication-deprecation-in-exchange-online-september/".to_owned()),
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
