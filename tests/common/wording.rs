//! What a notice is made from in tests, and what its reader sees of it.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::path::Path;
use std::sync::LazyLock;

use chrono::NaiveDate;
use kigen::config::Support;
use kigen::domain::campaign::Campaign;
use kigen::domain::case::Reference;
use kigen::domain::customer::{Address, Customer, Language};
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::CustomerId;
use kigen::notice::{Notice, NoticeSite, Rendered};
use url::Url;

pub const LANGUAGES: [Language; 2] = [Language::Ja, Language::En];

/// A customer of whom nothing special is known.
pub fn customer(language: Language) -> Customer {
    let (name, contact) = match language {
        Language::Ja => ("株式会社サンプル商事", "情報システム部 山田 太郎"),
        Language::En => ("Sample Trading KK", "Taro Yamada"),
    };
    Customer {
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
    }
}

/// A notice of that day, with the vendor's usual links and support, and the campaign's own deadline.
pub fn notice<'a>(
    kind: NoticeKind,
    customer: &'a Customer,
    campaign: &'a Campaign,
    sites: Vec<NoticeSite>,
    today: NaiveDate,
) -> Notice<'a> {
    static REFERENCE: LazyLock<Reference> = LazyLock::new(|| Reference("KG-7Q2M-XF4B".to_owned()));
    static LOGON: LazyLock<Url> = LazyLock::new(|| "https://www.exlook.net/exlookconfig/logon.aspx".parse().unwrap());
    static PORTAL: LazyLock<Url> = LazyLock::new(|| "https://portal.bbsonlineservices.net/".parse().unwrap());
    static SUPPORT: LazyLock<Support> = LazyLock::new(|| Support {
        name: "ExLook サポート窓口".to_owned(),
        email: Some(Address::new("support@example.jp").unwrap()),
        phone: Some("03-0000-0000".to_owned()),
    });
    Notice {
        kind,
        customer,
        reference: &REFERENCE,
        sites,
        campaign,
        deadline: campaign.deadline_of(customer),
        previous_deadline: None,
        today,
        noticed_on: today,
        federated: None,
        support: &SUPPORT,
        logon_url: &LOGON,
        portal_url: &PORTAL,
        zone: chrono_tz::Asia::Tokyo,
    }
}

/// Writes a notice where a person asked for it: into the directory `KIGEN_NOTICE_OUT`.
pub fn show(name: &str, rendered: &Rendered) {
    if let Some(dir) = std::env::var_os("KIGEN_NOTICE_OUT") {
        let dir = Path::new(&dir);
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(format!("{name}.html")), &rendered.html).unwrap();
        std::fs::write(dir.join(format!("{name}.txt")), format!("{}\n\n{}", rendered.subject, rendered.text)).unwrap();
    }
}

/// What a reader sees of the HTML part: no tags, no style, entities as characters.
pub fn visible(html: &str) -> String {
    let page = scraper::Html::parse_document(html);
    let body = scraper::Selector::parse("body").unwrap();
    page.select(&body).flat_map(|body| body.text()).collect()
}

/// Without white space, so that a line's end does not hide a sentence.
pub fn solid(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Both parts, each as its reader sees it, for looking something up.
pub fn parts(rendered: &Rendered) -> [(&'static str, String); 2] {
    // Quotation marks are typographic in HTML.
    let html = visible(&rendered.html).replace(['“', '”'], "\"").replace('’', "'");
    [("text", solid(&rendered.text)), ("html", solid(&html))]
}
