//! A row -> one [`Member`], or everything that is wrong with it.
//!
//! Of a bad address only the masked form is shown; see [`super::row`].

use std::collections::HashMap;
use std::path::Path;

use url::Url;

use super::column::Column;
use super::row::{Row, bad_text};
use super::{Logon, Member, Password, Quarantined};
use crate::domain::campaign::CampaignId;
use crate::domain::customer::{Address, BadAddress, Customer, Language};
use crate::domain::site::{CustomerId, SiteName};
use crate::secret::{Secret, SecretSource};

/// The longest company's or person's name, in characters.
const MAX_NAME: usize = 300;

/// The longest telephone number, with what people write around it, in characters.
const MAX_PHONE: usize = 100;

/// The longest account, password and path, in characters.
const MAX_LOGON: usize = 1024;

/// The most addresses in one cell; RFC 5321 4.5.3.1.8 lets a server stop at 100 recipients.
const MAX_ADDRESSES: usize = 30;

/// The most sites in one cell.
const MAX_SITES: usize = 1000;

/// Ids that stand in more than one row, with the lines of all of them.
pub(super) type Shared = HashMap<CustomerId, Vec<u64>>;

/// Which of these ids, each with its line, are shared.
pub(super) fn shared(mut ids: Vec<(CustomerId, u64)>) -> Shared {
    ids.sort_unstable();
    let same = ids.chunk_by(|(a, _), (b, _)| a == b).filter(|rows| rows.len() > 1);
    same.map(|rows| (rows[0].0.clone(), rows.iter().map(|(_, line)| *line).collect())).collect()
}

/// Checks a row. Rows that share an id are all quarantined: nobody can say which is right.
pub(super) fn one(mut row: Row, shared: &Shared, base: &Path) -> Result<Member, Quarantined> {
    row.read_id();
    if let Some(others) = row.id.as_ref().and_then(|id| shared.get(id)) {
        let message = stands_elsewhere(others, row.line);
        row.fail(Column::CustomerId, message);
    }
    if row.misaligned { Err(row.into_quarantined()) } else { row.into_member(base) }
}

/// What is wrong with a row whose id stands on all of these lines.
pub(super) fn stands_elsewhere(lines: &[u64], own: u64) -> String {
    const SHOWN: usize = 5;
    let others: Vec<String> = lines.iter().filter(|l| **l != own).take(SHOWN).map(u64::to_string).collect();
    let more = if lines.len() > SHOWN + 1 { format!(" and {} more", lines.len() - SHOWN - 1) } else { String::new() };
    let s = if lines.len() > 2 { "s" } else { "" };
    format!(
        "stands on line{s} {}{more} too; give each customer an id of its own, or remove what is double",
        others.join(", ")
    )
}

impl Row {
    fn read_id(&mut self) {
        if self.misaligned {
            self.id = CustomerId::new(self.shown(Column::CustomerId)).ok();
            return;
        }
        match self.label(Column::CustomerId, CustomerId::MAX).map(|text| CustomerId::new(&text)) {
            Some(Ok(id)) => self.id = Some(id),
            Some(Err(why)) => self.fail(Column::CustomerId, why.to_string()),
            None if self.is_empty(Column::CustomerId) => {
                self.fail(Column::CustomerId, "is empty; every customer needs one")
            }
            None => {}
        }
    }

    fn into_member(mut self, base: &Path) -> Result<Member, Quarantined> {
        let name = self.label(Column::Name, MAX_NAME);
        if name.is_none() && self.is_empty(Column::Name) {
            self.fail(Column::Name, "is empty; every customer needs one");
        }
        let errors = self.errors.len();
        let email = self.addresses(Column::Email);
        if email.is_empty() && self.errors.len() == errors {
            self.fail(Column::Email, "is empty; every customer needs one");
        }
        let mut cc = self.addresses(Column::Cc);
        cc.retain(|a| !email.iter().any(|e| e.as_str().eq_ignore_ascii_case(a.as_str())));
        let contact_name = self.label(Column::ContactName, MAX_NAME);
        let fallback_email = self.addresses(Column::FallbackEmail);
        let phone = self.label(Column::Phone, MAX_PHONE);
        let language = self.language();
        let logon = self.logon(base);
        let tenant_domain = self.tenant_domain();
        let feature_phone = self.yes_no(Column::FeaturePhone);
        let smartphone = self.yes_no(Column::Smartphone);
        let opted_out = self.yes_no(Column::OptedOut).unwrap_or(false);
        let done = self.campaigns(Column::Done);
        let notify = self.yes_no(Column::Notify).unwrap_or(true);
        let sites = self.sites();
        // Ignored, but checked: a note that cannot be read is a sign that the row was damaged.
        self.text(Column::Note);
        match (self.errors.is_empty(), self.id.take(), name) {
            (true, Some(id), Some(name)) => {
                let fingerprint = logon.fingerprint();
                let customer = Customer {
                    id,
                    name,
                    email,
                    contact_name,
                    cc,
                    fallback_email,
                    phone,
                    language,
                    tenant_domain,
                    feature_phone,
                    smartphone,
                    opted_out,
                    done,
                    notify,
                    sites,
                };
                Ok(Member { customer, logon, fingerprint })
            }
            (_, id, _) => {
                self.id = id;
                Err(self.into_quarantined())
            }
        }
    }

    fn into_quarantined(mut self) -> Quarantined {
        let shown: String = self.shown(Column::Name).chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
        self.errors.sort_by_key(|e| e.line);
        Quarantined { id: self.id, name: Some(shown).filter(|n| !n.is_empty()), errors: self.errors }
    }

    /// The addresses of a cell, each once.
    fn addresses(&mut self, column: Column) -> Vec<Address> {
        let texts = self.list(column);
        if texts.len() > MAX_ADDRESSES {
            self.fail(column, format!("has {} addresses; at most {MAX_ADDRESSES} are possible", texts.len()));
            return Vec::new();
        }
        let mut addresses: Vec<Address> = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            match Address::new(text) {
                Ok(address) => {
                    if !addresses.iter().any(|a| a.as_str().eq_ignore_ascii_case(address.as_str())) {
                        addresses.push(address);
                    }
                }
                Err(why) => {
                    let which =
                        if texts.len() > 1 { format!("address {} ({})", n + 1, masked(text)) } else { masked(text) };
                    self.fail(column, format!("{which} {why}{}", remedy(why)));
                }
            }
        }
        addresses
    }

    /// The ids of campaigns, each once. Whether there is such a campaign, the configuration knows.
    fn campaigns(&mut self, column: Column) -> Vec<CampaignId> {
        let mut ids: Vec<CampaignId> = Vec::new();
        for text in self.list(column) {
            // `yes` has the form of an id, and would silently say nothing.
            match CampaignId::new(&text).filter(|_| !matches!(text.as_str(), "yes" | "no")) {
                Some(id) if ids.contains(&id) => {}
                Some(id) => ids.push(id),
                None => self.fail(column, "holds what is no campaign's id; write ids such as exchange-online-ews"),
            }
        }
        ids
    }

    fn sites(&mut self) -> Vec<SiteName> {
        let texts = self.list(Column::Sites);
        if texts.len() > MAX_SITES {
            self.fail(Column::Sites, format!("has {} sites; at most {MAX_SITES} are possible", texts.len()));
            return Vec::new();
        }
        let mut sites: Vec<SiteName> = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            match SiteName::new(text) {
                Ok(site) if sites.contains(&site) => {
                    self.fail(Column::Sites, format!("site {} stands there twice; remove one", n + 1));
                }
                Ok(site) => sites.push(site),
                Err(why) => self.fail(Column::Sites, format!("site {} {why}", n + 1)),
            }
        }
        sites
    }

    fn language(&mut self) -> Language {
        match self.text(Column::Language).as_deref() {
            None | Some("ja") => Language::Ja,
            Some("en") => Language::En,
            Some(_) => {
                self.fail(Column::Language, "is neither `ja` nor `en`");
                Language::default()
            }
        }
    }

    fn logon(&mut self, base: &Path) -> Logon {
        let gives_password =
            [Column::Password, Column::PasswordFile, Column::Credential].into_iter().any(|c| !self.is_empty(c));
        let gives_account = !self.is_empty(Column::Account);
        let account = self.label(Column::Account, MAX_LOGON).unwrap_or_default();
        let password = self.password(base);
        if gives_account && !gives_password {
            self.fail(Column::Account, "has no password; give one of `password`, `password_file` and `credential`");
        }
        if gives_password && !gives_account {
            self.fail(Column::Account, "is empty, but a password is given; give both or neither");
        }
        Logon { account, password, url: self.logon_url() }
    }

    fn password(&mut self, base: &Path) -> Option<Password> {
        const KINDS: [Column; 3] = [Column::Password, Column::PasswordFile, Column::Credential];
        let given: Vec<Column> = KINDS.into_iter().filter(|c| !self.is_empty(*c)).collect();
        if let [_, second, ..] = given.as_slice() {
            self.fail(*second, "only one of `password`, `password_file` and `credential` can be given");
            return None;
        }
        match given.first()? {
            Column::Password => self.literal_password(),
            Column::PasswordFile => {
                let path = self.label(Column::PasswordFile, MAX_LOGON)?;
                Some(Password::Source(SecretSource::File(base.join(path))))
            }
            _ => {
                let name = self.label(Column::Credential, 255)?;
                if name.contains('/') || name.starts_with('.') || name.contains(char::is_whitespace) {
                    self.fail(Column::Credential, "is no credential's name: that has no path and no spaces in it");
                    return None;
                }
                Some(Password::Source(SecretSource::Credential(name)))
            }
        }
    }

    /// Never trimmed: of a password with a space at its end nobody can say whether it belongs to it, and every refused
    /// logon brings the account nearer to its lock.
    fn literal_password(&mut self) -> Option<Password> {
        let Some(text) = self.text_mut(Column::Password) else {
            self.text(Column::Password);
            return None;
        };
        let text = std::mem::take(text);
        let why = if text.trim() != text {
            "begins or ends with a space; remove it, or put the password into a file (`password_file`) if it belongs to it"
                .to_owned()
        } else if let Some(why) = bad_text(&text, MAX_LOGON) {
            why
        } else {
            return Some(Password::Given(Secret::new(text)));
        };
        self.fail(Column::Password, why);
        None
    }

    fn logon_url(&mut self) -> Option<Url> {
        let text = self.text(Column::LogonUrl)?;
        let why = match Url::parse(&text) {
            Err(why) => format!("is no URL: {why}; write https://HOST/…"),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => "is neither http:// nor https://".to_owned(),
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "holds a user name or password; they belong into `account` and `password`".to_owned()
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => "names no host".to_owned(),
            Ok(url) => return Some(url),
        };
        self.fail(Column::LogonUrl, why);
        None
    }

    fn tenant_domain(&mut self) -> Option<String> {
        let text = self.text(Column::TenantDomain)?;
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match url::Host::parse(&text) {
            Ok(url::Host::Domain(domain))
                if domain.contains('.') && domain.len() <= 253 && domain.split('.').all(label) =>
            {
                Some(domain)
            }
            _ => {
                self.fail(Column::TenantDomain, "is no domain; write one such as contoso.onmicrosoft.com");
                None
            }
        }
    }
}

/// What may be shown of a text that should have been an address.
fn masked(text: &str) -> String {
    let first = text.chars().find(|c| !c.is_control()).unwrap_or('*');
    match text.rsplit_once('@') {
        Some((_, domain)) if domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) => {
            format!("{first}***@{domain}")
        }
        Some(_) => format!("{first}***@***"),
        None => format!("{first}***"),
    }
}

fn remedy(why: BadAddress) -> &'static str {
    match why {
        BadAddress::Character(',' | ' ' | '\u{3000}' | '\n' | '\r') => "; several addresses are separated by `;`",
        BadAddress::Character('<' | '>' | '"' | '(' | ')') => "; write the bare address, without a name",
        BadAddress::NotAscii(_) => "; write it in half-width letters, `kigen import` does so",
        BadAddress::Character(_) | BadAddress::NoAt | BadAddress::TooLong | BadAddress::Domain => "",
    }
}
