//! One row of cells -> one [`Member`], or everything that is wrong with it.
//!
//! CSV and TOML end up here alike. Nothing a cell holds is repeated in an error, except an address's masked form: with two
//! columns swapped any cell may hold a password.

use std::collections::HashMap;
use std::path::Path;

use url::Url;

use super::column::Column;
use super::{Fleet, Logon, Member, Password, Quarantined, RowError};
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

/// What stands in a cell.
pub(super) enum Given {
    Text(String),
    /// A TOML array.
    List(Vec<String>),
    /// Nothing usable, and why.
    Bad(String),
}

/// A cell and the line on which it begins.
pub(super) struct Cell {
    pub line: u64,
    pub given: Given,
}

/// One customer as written.
pub(super) struct Row {
    /// The line on which it begins.
    pub line: u64,
    /// What is wrong with it so far.
    pub errors: Vec<RowError>,
    /// Its cells may stand in the wrong columns, so only the row itself is reported.
    pub misaligned: bool,
    /// A password may stand in it though `password` is not set.
    pub exposes: bool,
    cells: [Option<Cell>; Column::COUNT],
    id: Option<CustomerId>,
}

impl Row {
    pub fn new(line: u64) -> Self {
        Self {
            line,
            errors: Vec::new(),
            misaligned: false,
            exposes: false,
            cells: [const { None }; Column::COUNT],
            id: None,
        }
    }

    pub fn set(&mut self, column: Column, cell: Cell) {
        self.cells[column as usize] = Some(cell);
    }

    /// Changes a cell's text in place.
    pub fn edit(&mut self, column: Column, change: impl FnOnce(&str) -> String) {
        if let Some(Cell { given: Given::Text(text), .. }) = &mut self.cells[column as usize] {
            *text = change(text);
        }
    }

    /// The cell's text; empty where there is none.
    pub fn shown(&self, column: Column) -> &str {
        match &self.cells[column as usize] {
            Some(Cell { given: Given::Text(text), .. }) => text.trim(),
            _ => "",
        }
    }

    /// Adds an error at a cell.
    pub fn fail(&mut self, column: Column, message: impl Into<String>) {
        let line = self.cells[column as usize].as_ref().map_or(self.line, |c| c.line);
        self.errors.push(RowError { line, column: Some(column.name().to_owned()), message: message.into() });
    }

    /// Whether a password itself stands in the row.
    pub fn holds_a_password(&self) -> bool {
        self.exposes || !self.is_empty(Column::Password)
    }

    /// The trimmed text of a cell; `None` if it is empty or not usable (and then says so).
    fn text(&mut self, column: Column) -> Option<String> {
        match &self.cells[column as usize].as_ref()?.given {
            Given::Text(text) => Some(text.trim()).filter(|t| !t.is_empty()).map(str::to_owned),
            Given::List(_) => {
                self.fail(column, "is a list; write one string");
                None
            }
            Given::Bad(why) => {
                let why = why.clone();
                self.fail(column, why);
                None
            }
        }
    }

    /// The text of a cell that ends up in mails and lists.
    fn label(&mut self, column: Column, max: usize) -> Option<String> {
        let text = self.text(column)?;
        match bad_text(&text, max) {
            Some(why) => {
                self.fail(column, why);
                None
            }
            None => Some(text),
        }
    }

    /// The values of a cell with `;` between them, or of a TOML array; empty ones are left out.
    fn list(&mut self, column: Column) -> Vec<String> {
        let values: Vec<String> = match self.cells[column as usize].as_ref().map(|c| &c.given) {
            Some(Given::List(values)) => values.clone(),
            _ => self.text(column).map(|t| t.split(';').map(str::to_owned).collect()).unwrap_or_default(),
        };
        values.iter().map(|v| v.trim()).filter(|v| !v.is_empty()).map(str::to_owned).collect()
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

    fn yes_no(&mut self, column: Column) -> Option<bool> {
        match self.text(column)?.as_str() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => {
                self.fail(column, "is neither `yes` nor `no`");
                None
            }
        }
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
        let Some(Cell { given: Given::Text(text), .. }) = &mut self.cells[Column::Password as usize] else {
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

    fn is_empty(&self, column: Column) -> bool {
        match self.cells[column as usize].as_ref().map(|c| &c.given) {
            Some(Given::Text(text)) => text.trim().is_empty(),
            Some(Given::List(values)) => values.is_empty(),
            Some(Given::Bad(_)) => false,
            None => true,
        }
    }

    fn read_id(&mut self) {
        if self.misaligned {
            self.id = CustomerId::new(self.shown(Column::CustomerId)).ok();
            return;
        }
        match self.text(Column::CustomerId).map(|text| CustomerId::new(&text)) {
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
}

/// Checks every row. Rows that share an id are all quarantined: nobody can say which is right.
pub(super) fn read(mut rows: Vec<Row>, base: &Path) -> Fleet {
    let mut lines: HashMap<CustomerId, Vec<u64>> = HashMap::new();
    for row in &mut rows {
        row.read_id();
        if let Some(id) = &row.id {
            lines.entry(id.clone()).or_default().push(row.line);
        }
    }
    let mut fleet = Fleet::default();
    for mut row in rows {
        if let Some(others) = row.id.as_ref().and_then(|id| lines.get(id)).filter(|l| l.len() > 1) {
            let message = shared(others, row.line);
            row.fail(Column::CustomerId, message);
        }
        if row.misaligned {
            fleet.quarantined.push(row.into_quarantined());
            continue;
        }
        match row.into_member(base) {
            Ok(member) => fleet.members.push(member),
            Err(quarantined) => fleet.quarantined.push(quarantined),
        }
    }
    fleet
}

fn shared(lines: &[u64], own: u64) -> String {
    const SHOWN: usize = 5;
    let others: Vec<String> = lines.iter().filter(|l| **l != own).take(SHOWN).map(u64::to_string).collect();
    let more = if lines.len() > SHOWN + 1 { format!(" and {} more", lines.len() - SHOWN - 1) } else { String::new() };
    let s = if lines.len() > 2 { "s" } else { "" };
    format!(
        "stands on line{s} {}{more} too; give each customer an id of its own, or remove what is double",
        others.join(", ")
    )
}

/// Why a text cannot stand in a mail's header or greeting.
fn bad_text(text: &str, max: usize) -> Option<String> {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        Some("holds a control character such as a line break; write it on one line".to_owned())
    } else if text.contains('\u{fffd}') {
        Some("holds U+FFFD, the mark of a character that was lost when the file was saved; type it again".to_owned())
    } else if text.chars().any(turns) {
        Some("holds an invisible character that turns the reading direction; type it again".to_owned())
    } else if text.chars().count() > max {
        Some(format!("is longer than {max} characters; shorten it"))
    } else {
        None
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
