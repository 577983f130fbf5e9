//! What templates see: every value ready to be shown, and every "is this still true" answered by the day of sending.
//!
//! Invariant: outside data passes through [`format::shown`] here and nowhere else, so no template can forget it.

use chrono::NaiveDate;
use serde::Serialize;

use super::format;
use super::{Notice, NoticeSite};
use crate::domain::campaign::Postponing;
use crate::domain::case::Evidence;
use crate::domain::site::AuthMethod;

/// How many sites a mail lists itself; the rest stand in the attached file.
pub(super) const SITES_MAX: usize = 20;

/// How much of a site's name stands in a subject, in half-width columns.
const SUBJECT_NAME_COLUMNS: usize = 20;

/// One notice for its templates. The names are what operators write in their own templates.
#[derive(Debug, Serialize)]
pub(super) struct View {
    pub kind: &'static str,
    pub language: &'static str,
    /// Filled in after the subject's own template has been rendered.
    pub subject: String,
    pub reference: String,
    pub company: String,
    pub contact: Option<String>,
    pub support: Support,
    pub logon_url: String,
    pub portal_url: String,
    /// Where the campaign's dates come from.
    pub source: Option<String>,
    /// `basic_auth` or `exchange_online`.
    pub affects: &'static str,
    /// The product's application id in Microsoft Entra.
    pub app_id: Option<String>,
    /// What the vendor says it will do, in the customer's language.
    pub vendor_plan: Option<String>,

    /// The sites shown in the mail, by what was read of them.
    pub groups: Vec<Group>,
    /// All sites, also those that are not shown.
    pub site_count: usize,
    /// Those that are not shown.
    pub site_more: usize,
    /// One site's name, cut for a subject; `None` where there is no site.
    pub site_name: Option<String>,
    /// The attached list's file name.
    pub attachment: Option<String>,
    /// Some site uses OAuth now, or no site is named: what is said of OAuth holds.
    pub oauth: bool,

    pub deadline: String,
    pub previous_deadline: Option<String>,
    pub noticed_on: String,
    /// Days to the deadline; 0 once it has come.
    pub days_left: i64,
    /// Days since the deadline; 0 before it.
    pub days_since: i64,
    /// The customer's deadline has come.
    pub passed: bool,
    /// Microsoft has begun to turn it off.
    pub begun: bool,
    /// It is off for good.
    pub off: bool,
    /// The last day of opting out, the day before Microsoft begins.
    pub opt_out_until: String,
    /// `opt_out`, `turn_on_again`, `never`.
    pub postponing: &'static str,
    pub opted_out: bool,
    /// A site can still be set back to basic authentication.
    pub way_back: bool,
    /// The day Microsoft begins.
    pub begins_on: String,
    pub postponed_to: Option<String>,
    /// The week from which it is off for good.
    pub final_week: Option<String>,
    /// The day from which it is off for good, and how far it is; 0 once it has come.
    pub final_day: Option<String>,
    pub final_days_left: i64,

    /// Feature phones and federation: both used or unknown.
    pub feature_phone: bool,
    /// Smartphones: used or unknown.
    pub smartphone: bool,
}

/// Whom to ask.
#[derive(Debug, Serialize)]
pub(super) struct Support {
    pub name: String,
    pub email: Option<String>,
    pub phone: Option<String>,
}

/// Sites of which the same was read.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Group {
    pub server_type: String,
    pub auth_method: String,
    /// `basic`, `oauth`, `on_premises_basic`, or nothing.
    pub auth_word: Option<&'static str>,
    /// `exchange_online`, `on_premises`, or nothing.
    pub server_word: Option<&'static str>,
    /// For `resolved`: what was read while it was affected.
    pub before_server_type: String,
    pub before_auth_method: String,
    pub before_server_word: Option<&'static str>,
    pub before_auth_word: Option<&'static str>,
    /// The tool does not list these sites any more.
    pub gone: bool,
    pub sites: Vec<SiteLine>,
}

/// One site as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct SiteLine {
    pub name: String,
    pub server_type: String,
    pub auth_method: String,
    pub read_at: String,
    pub before_read_at: String,
}

impl View {
    /// Answers every question a template may ask.
    pub(super) fn new(notice: &Notice<'_>) -> Self {
        let language = notice.customer.language;
        let (campaign, customer, today) = (notice.campaign, notice.customer, notice.today);
        let date = |day: NaiveDate| format::date(language, day);
        let days = (notice.deadline - today).num_days();
        let site_more = notice.sites.len().saturating_sub(SITES_MAX);
        let way_back = campaign.way_back(today);
        let begins_on = campaign.begins_on();
        let product = campaign.product.as_ref();
        Self {
            kind: notice.kind.as_str(),
            language: language.as_str(),
            subject: String::new(),
            reference: format::shown(&notice.reference.0),
            company: format::shown(&customer.name),
            contact: customer.contact_name.as_deref().map(format::shown).filter(|name| !name.is_empty()),
            support: Support {
                name: format::shown(&notice.support.name),
                email: notice.support.email.as_ref().map(|a| a.as_str().to_owned()),
                phone: notice.support.phone.as_deref().map(format::shown),
            },
            logon_url: notice.logon_url.to_string(),
            portal_url: notice.portal_url.to_string(),
            source: campaign.source.as_deref().map(format::shown),
            affects: campaign.affects.as_str(),
            app_id: product.map(|product| format::shown(&product.app_id)),
            vendor_plan: product.and_then(|product| product.plan(language)).map(format::shown),
            groups: groups(notice),
            site_count: notice.sites.len(),
            site_more,
            site_name: notice.sites.first().map(|site| {
                let name = format::shown(site.name.as_str());
                format::cut(&name, SUBJECT_NAME_COLUMNS)
            }),
            attachment: None,
            oauth: notice.sites.is_empty() || notice.sites.iter().any(uses_oauth),
            deadline: date(notice.deadline),
            previous_deadline: notice.previous_deadline.map(date),
            noticed_on: date(notice.noticed_on),
            days_left: days.max(0),
            days_since: (-days).max(0),
            passed: days <= 0,
            begun: today >= begins_on,
            off: !way_back,
            postponing: match campaign.postponing(today) {
                Postponing::OptOut => "opt_out",
                Postponing::TurnOnAgain => "turn_on_again",
                Postponing::Never => "never",
            },
            opted_out: customer.opted_out && campaign.postponed_to.is_some(),
            way_back,
            opt_out_until: date(begins_on.pred_opt().unwrap_or(begins_on)),
            begins_on: date(begins_on),
            postponed_to: campaign.postponed_to.map(date),
            final_week: campaign.last_day.map(|day| format::week(language, day)),
            final_day: campaign.last_day.map(date),
            final_days_left: campaign.last_day.map_or(0, |day| (day - today).num_days().max(0)),
            feature_phone: customer.feature_phone != Some(false) && notice.federated != Some(false),
            smartphone: customer.smartphone != Some(false),
        }
    }
}

fn uses_oauth(site: &NoticeSite) -> bool {
    !site.gone && site.now.auth_method == Some(AuthMethod::OAuth)
}

/// One site's line, with the texts of the page where it showed them.
pub(super) fn site_line(site: &NoticeSite, notice: &Notice<'_>) -> SiteLine {
    let moment = |seen: &Evidence| format::moment(notice.customer.language, seen.observed_at, notice.zone);
    SiteLine {
        name: Some(format::shown(site.name.as_str())).filter(|name| !name.is_empty()).unwrap_or_else(|| "-".to_owned()),
        server_type: server_type(&site.now),
        auth_method: auth_method(&site.now),
        read_at: moment(&site.now),
        before_read_at: moment(&site.before),
    }
}

fn groups(notice: &Notice<'_>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for site in notice.sites.iter().take(SITES_MAX) {
        let line = site_line(site, notice);
        let new = Group {
            server_type: line.server_type.clone(),
            auth_method: line.auth_method.clone(),
            auth_word: site.now.auth_method.map(AuthMethod::as_str),
            server_word: site.now.server_type.map(|value| value.as_str()),
            before_server_type: server_type(&site.before),
            before_auth_method: auth_method(&site.before),
            before_server_word: site.before.server_type.map(|value| value.as_str()),
            before_auth_word: site.before.auth_method.map(AuthMethod::as_str),
            gone: site.gone,
            sites: Vec::new(),
        };
        let alike = groups.iter_mut().find(|known| {
            let read = |g: &Group| (g.server_type.clone(), g.auth_method.clone(), g.gone);
            let before = |g: &Group| (g.before_server_type.clone(), g.before_auth_method.clone());
            read(known) == read(&new) && before(known) == before(&new)
        });
        match alike {
            Some(known) => known.sites.push(line),
            None => groups.push(Group { sites: vec![line], ..new }),
        }
    }
    groups
}

fn server_type(seen: &Evidence) -> String {
    let known = seen.server_type.map(format::server_type);
    seen.raw.server_type.as_deref().or(known).map_or_else(|| "-".to_owned(), format::shown)
}

fn auth_method(seen: &Evidence) -> String {
    let known = seen.auth_method.map(format::auth_method);
    seen.raw.auth_method.as_deref().or(known).map_or_else(|| "-".to_owned(), format::shown)
}
