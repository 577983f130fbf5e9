//! Renders every template with sample data before it is used: each kind, language and phase of a campaign, each paragraph
//! that only some customers get, and customers with names that break careless templates.

use std::collections::BTreeSet;

use chrono::{NaiveDate, TimeZone, Utc};
use url::Url;

use super::render::{TemplateError, Templates, Wording};
use super::{Notice, NoticeSite};
use crate::config::Support;
use crate::domain::campaign::{Affects, Campaign, CampaignId, Milestone, Product};
use crate::domain::case::{Evidence, Reference};
use crate::domain::customer::{Address, Customer, Language};
use crate::domain::observation::RawSettings;
use crate::domain::plan::NoticeKind;
use crate::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};

const LANGUAGES: [Language; 2] = [Language::Ja, Language::En];
/// Unknown and unused; used shows the same as unknown.
const USES: [Option<bool>; 2] = [None, Some(false)];

/// `first.ja`, …: every kind in every language.
pub(super) fn names() -> impl Iterator<Item = String> {
    kinds().map(|(kind, language)| format!("{}.{}", kind.as_str(), language.as_str()))
}

fn kinds() -> impl Iterator<Item = (NoticeKind, Language)> {
    NoticeKind::ALL.into_iter().flat_map(|kind| LANGUAGES.map(|language| (kind, language)))
}

/// What is wrong, each thing once.
pub(super) fn all(templates: &Templates, wording: Wording) -> Vec<TemplateError> {
    let mut errors = BTreeSet::new();
    for (kind, language) in kinds().filter(|(kind, _)| wording.has(*kind)) {
        for sample in samples(language) {
            let sample = match wording {
                Wording::BasicAuth => sample,
                Wording::Ews => sample.about_ews(),
            };
            sample.with(kind, |notice| errors.extend(templates.faults(notice)));
        }
    }
    errors.into_iter().collect()
}

/// One sample of everything that a notice is made from.
struct Sample {
    customer: Customer,
    campaign: Campaign,
    sites: Vec<NoticeSite>,
    today: NaiveDate,
    federated: Option<bool>,
    support: Support,
}

impl Sample {
    /// The same phases, edges and customers in a campaign about EWS.
    fn about_ews(mut self) -> Self {
        // Some vendors say what they will do, some do not.
        let plan = |text: &str| self.customer.feature_phone.is_none().then(|| text.to_owned());
        let product = Product {
            app_id: "1b730954-1685-4b74-9bfd-dac224a7b894".to_owned(),
            plan_ja: plan("2027年3月までに移行します <b>"),
            plan_en: plan("We move by March 2027 <b>"),
        };
        self.campaign.affects = Affects::ExchangeOnline;
        self.campaign.begins = Some(self.campaign.deadline);
        self.campaign.deadline = self.campaign.last_day.unwrap_or(self.campaign.deadline);
        self.campaign.postponed_to = None;
        self.campaign.product = Some(product);
        self
    }

    fn with(&self, kind: NoticeKind, mut look: impl FnMut(&Notice<'_>)) {
        let deadline = self.campaign.deadline_of(&self.customer);
        let url = |text: &str| Url::parse(text).expect("a literal URL");
        look(&Notice {
            kind,
            customer: &self.customer,
            reference: &Reference("KG-7Q2M-XF4B".to_owned()),
            sites: self.sites.clone(),
            campaign: &self.campaign,
            deadline,
            previous_deadline: (kind == NoticeKind::Rescheduled).then_some(self.campaign.deadline),
            today: self.today,
            noticed_on: self.today,
            federated: self.federated,
            support: &self.support,
            logon_url: &url("https://www.exlook.net/exlookconfig/logon.aspx"),
            portal_url: &url("https://portal.bbsonlineservices.net/"),
            zone: chrono_tz::Asia::Tokyo,
        });
    }
}

fn samples(language: Language) -> Vec<Sample> {
    let plain = || sample(language, "株式会社サンプル商事", &["本社", "大阪支社"]);
    let mut samples = Vec::new();
    for feature_phone in USES {
        for smartphone in USES {
            for federated in USES {
                let mut one = plain();
                one.customer.feature_phone = feature_phone;
                one.customer.smartphone = smartphone;
                one.federated = federated;
                samples.push(one);
            }
        }
    }
    // Long before, the day before, the day itself, while it can be turned on again, the last such day, off for good.
    for today in [(2022, 9, 1), (2022, 9, 30), (2022, 10, 1), (2022, 11, 1), (2022, 12, 31), (2023, 1, 10)] {
        for opted_out in [false, true] {
            let mut one = plain();
            one.today = day(today.0, today.1, today.2);
            one.customer.opted_out = opted_out;
            samples.push(one);
        }
    }
    samples.extend(edges(language));
    samples
}

/// Customers, sites and campaigns that break careless templates.
fn edges(language: Language) -> Vec<Sample> {
    let long = "長".repeat(300);
    let hostile = "<script>alert('1')</script> & \"Söhne\" 👩\u{200D}💻 \u{202E}{{ reference }}";
    let mut edges = vec![
        sample(language, &long, &[&long]),
        sample(language, &"W".repeat(300), &[&"W".repeat(300)]),
        sample(language, hostile, &[hostile, "=1+1"]),
        sample(language, "株式会社サンプル商事", &[]),
    ];
    let many: Vec<String> = (1..=500).map(|n| format!("サイト{n}")).collect();
    edges.push(sample(language, "株式会社サンプル商事", &many.iter().map(String::as_str).collect::<Vec<_>>()));
    let mut nameless = sample(language, "株式会社サンプル商事", &["本社"]);
    nameless.customer.contact_name = None;
    nameless.support.email = None;
    nameless.support.phone = None;
    nameless.sites[0].gone = true;
    nameless.campaign.postponed_to = None;
    nameless.campaign.last_day = None;
    nameless.campaign.source = None;
    edges.push(nameless);
    let mut switched = sample(language, "株式会社サンプル商事", &["本社", "大阪支社"]);
    switched.sites[0].now.auth_method = Some(AuthMethod::OAuth);
    switched.sites[0].now.raw = RawSettings::default();
    switched.sites[1].now = Evidence {
        server_type: Some(ServerType::OnPremises),
        auth_method: Some(AuthMethod::OnPremisesBasic),
        ..switched.sites[1].now.clone()
    };
    edges.push(switched);
    edges
}

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("a literal date")
}

fn sample(language: Language, name: &str, sites: &[&str]) -> Sample {
    let address = || Address::new("admin@example.jp").expect("a literal address");
    let seen = Evidence {
        observed_at: Utc.timestamp_opt(1_661_979_603, 0).single().expect("a literal instant"),
        server_type: Some(ServerType::ExchangeOnline),
        auth_method: Some(AuthMethod::Basic),
        raw: RawSettings {
            server_type: Some("Exchange Online に接続する".to_owned()),
            auth_method: Some("基本認証 (Office 365の場合)".to_owned()),
        },
    };
    let site = |name: &&str| NoticeSite {
        name: SiteName::new(name).expect("a name within the limit"),
        now: seen.clone(),
        before: seen.clone(),
        gone: false,
    };
    Sample {
        customer: Customer {
            id: CustomerId::new("C0001").expect("a literal id"),
            name: name.to_owned(),
            email: vec![address()],
            contact_name: Some(name.to_owned()),
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
            id: CampaignId("sample".to_owned()),
            affects: Affects::BasicAuth,
            begins: None,
            deadline: day(2022, 10, 1),
            postponed_to: Some(day(2022, 12, 31)),
            last_day: Some(day(2023, 1, 1)),
            reminders: vec![Milestone { days: 30 }],
            overdue_every: Some(7),
            consent_every: 7,
            product: None,
            source: Some("https://example.jp/source".to_owned()),
        },
        sites: sites.iter().map(site).collect(),
        today: day(2022, 9, 19),
        federated: None,
        support: Support {
            name: "サポート窓口".to_owned(),
            email: Some(address()),
            phone: Some("03-0000-0000".to_owned()),
        },
    }
}
