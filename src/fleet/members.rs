//! The customers of a file in little memory: each packed into a hundred bytes or so, and unpacked when it is asked for.
//!
//! The files of a large fleet are in use for as long as the daemon runs. Invariant: what is unpacked equals what was packed.

use std::borrow::Cow;
use std::fmt;

use super::{Logon, Member, Password};
use crate::domain::campaign::CampaignId;
use crate::domain::customer::{Address, Customer, Customers, Language};
use crate::domain::site::{CustomerId, SiteName};
use crate::secret::{Secret, SecretSource};

/// Passwords are kept in pieces of so many bytes, which do not move while they fill.
const PIECE: usize = 32 * 1024;

/// All customers of a file.
#[derive(Default)]
pub struct Members {
    /// One record after the other, in the file's order.
    records: Vec<u8>,
    /// Where each record begins.
    starts: Vec<u32>,
    /// The records' numbers in the order of the ids.
    by_id: Vec<u32>,
    passwords: Vec<Secret>,
    sources: Vec<SecretSource>,
}

/// Shows no customer.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} customers", self.len())
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut packing = Packing::default();
        members.into_iter().for_each(|member| packing.push(&member));
        packing.done()
    }
}

impl Customers for Members {
    fn customer(&self, id: &CustomerId) -> Option<Cow<'_, Customer>> {
        self.get(id).map(Cow::Owned)
    }
}

impl Members {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Where in the file's order a customer stands.
    #[must_use]
    pub fn number(&self, id: &CustomerId) -> Option<usize> {
        let place = self.by_id.binary_search_by(|number| self.id_text(*number as usize).cmp(id.as_str())).ok()?;
        Some(self.by_id[place] as usize)
    }

    /// Whether there is such a customer.
    #[must_use]
    pub fn contains_key(&self, id: &CustomerId) -> bool {
        self.number(id).is_some()
    }

    /// A customer without its logon.
    #[must_use]
    pub fn get(&self, id: &CustomerId) -> Option<Customer> {
        self.number(id).map(|number| self.customer_at(number))
    }

    /// The customers in the order of their ids.
    pub fn values(&self) -> impl Iterator<Item = Customer> + '_ {
        self.by_id.iter().map(|number| self.customer_at(*number as usize))
    }

    /// The ids in the file's order.
    pub fn ids(&self) -> impl Iterator<Item = CustomerId> + '_ {
        (0..self.len()).map(|number| self.id_at(number))
    }

    /// Ids and companies' names, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = (CustomerId, String)> + '_ {
        (0..self.len()).map(|number| {
            let mut record = self.record(number);
            let id = id(record.text());
            record.number();
            (id, record.text().to_owned())
        })
    }

    /// The id of the one at that place of the file's order.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn id_at(&self, number: usize) -> CustomerId {
        id(self.id_text(number))
    }

    /// The one at that place of the file's order, without its logon.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn customer_at(&self, number: usize) -> Customer {
        self.record(number).customer()
    }

    /// The one at that place of the file's order.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn at(&self, number: usize) -> Member {
        let mut record = self.record(number);
        let customer = record.customer();
        let logon = Logon {
            account: record.text().to_owned(),
            url: some(record.text()).map(|text| text.parse().expect("it was a URL")),
            password: match record.number() {
                NONE => None,
                GIVEN => {
                    let (piece, start, length) = (record.number(), record.number(), record.number());
                    let text = &self.passwords[piece].expose()[start..start + length];
                    Some(Password::Given(Secret::new(text.to_owned())))
                }
                _ => Some(Password::Source(self.sources[record.number()].clone())),
            },
        };
        Member { fingerprint: logon.fingerprint(), customer, logon }
    }

    fn record(&self, number: usize) -> Record<'_> {
        Record(&self.records[self.starts[number] as usize..])
    }

    fn id_text(&self, number: usize) -> &str {
        self.record(number).text()
    }
}

const NONE: usize = 0;
const GIVEN: usize = 1;
const SOURCE: usize = 2;

/// [`Members`] in the making.
#[derive(Default)]
pub(super) struct Packing {
    members: Members,
    piece: String,
}

impl Packing {
    /// Takes one more; no two have one id.
    pub(super) fn push(&mut self, member: &Member) {
        let Member { customer, logon, .. } = member;
        let start = u32::try_from(self.members.records.len()).expect("a customers file is no 4 GiB");
        self.members.starts.push(start);
        let out = &mut self.members.records;
        put_text(out, customer.id.as_str());
        put_number(out, flags(customer));
        put_text(out, &customer.name);
        for text in [&customer.contact_name, &customer.phone, &customer.tenant_domain] {
            put_text(out, text.as_deref().unwrap_or_default());
        }
        for list in [&customer.email, &customer.cc, &customer.fallback_email] {
            put_list(out, list.iter().map(Address::as_str));
        }
        put_list(out, customer.done.iter().map(|campaign| campaign.0.as_str()));
        put_list(out, customer.sites.iter().map(SiteName::as_str));
        put_text(out, &logon.account);
        put_text(out, logon.url.as_ref().map_or("", url::Url::as_str));
        match &logon.password {
            None => put_number(out, NONE),
            Some(Password::Given(secret)) => {
                let text = secret.expose();
                if self.piece.capacity() - self.piece.len() < text.len() {
                    let next = String::with_capacity(PIECE.max(text.len()));
                    let full = std::mem::replace(&mut self.piece, next);
                    if !full.is_empty() {
                        self.members.passwords.push(Secret::new(full));
                    }
                }
                let place = [GIVEN, self.members.passwords.len(), self.piece.len(), text.len()];
                place.into_iter().for_each(|number| put_number(out, number));
                self.piece.push_str(text);
            }
            Some(Password::Source(source)) => {
                put_number(out, SOURCE);
                put_number(out, self.members.sources.len());
                self.members.sources.push(source.clone());
            }
        }
    }

    pub(super) fn done(mut self) -> Members {
        self.members.passwords.push(Secret::new(self.piece));
        let mut members = self.members;
        members.records.shrink_to_fit();
        members.starts.shrink_to_fit();
        let mut by_id: Vec<u32> = (0..members.starts.len()).filter_map(|number| u32::try_from(number).ok()).collect();
        by_id.sort_unstable_by(|a, b| members.id_text(*a as usize).cmp(members.id_text(*b as usize)));
        members.by_id = by_id;
        members
    }
}

fn flags(customer: &Customer) -> usize {
    let answer = |answer: Option<bool>| answer.map_or(0, |yes| 1 + usize::from(yes));
    usize::from(customer.language == Language::En)
        | usize::from(customer.opted_out) << 1
        | usize::from(customer.notify) << 2
        | answer(customer.feature_phone) << 3
        | answer(customer.smartphone) << 5
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_list<'t>(out: &mut Vec<u8>, texts: impl ExactSizeIterator<Item = &'t str>) {
    put_number(out, texts.len());
    texts.for_each(|text| put_text(out, text));
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn id(text: &str) -> CustomerId {
    CustomerId::new(text).expect("it was an id")
}

/// What is left of one record.
struct Record<'m>(&'m [u8]);

impl<'m> Record<'m> {
    fn number(&mut self) -> usize {
        let length = 1 + self.0.iter().take_while(|byte| **byte & 0x80 != 0).count();
        let (number, rest) = self.0.split_at(length);
        self.0 = rest;
        number.iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f))
    }

    fn text(&mut self) -> &'m str {
        let length = self.number();
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(text).expect("it was a text")
    }

    fn list<T>(&mut self, of: impl Fn(&str) -> T) -> Vec<T> {
        (0..self.number()).map(|_| of(self.text())).collect()
    }

    fn customer(&mut self) -> Customer {
        let address = |text: &str| Address::new(text).expect("it was an address");
        let id = id(self.text());
        let flags = self.number();
        let answer = |bits: usize| [None, Some(false), Some(true)][(flags >> bits & 3).min(2)];
        let name = self.text().to_owned();
        let [contact_name, phone, tenant_domain] = std::array::from_fn(|_| some(self.text()).map(str::to_owned));
        Customer {
            id,
            name,
            contact_name,
            phone,
            tenant_domain,
            email: self.list(address),
            cc: self.list(address),
            fallback_email: self.list(address),
            done: self.list(|text| CampaignId(text.to_owned())),
            sites: self.list(|text| SiteName::new(text).expect("it was a site's name")),
            language: if flags & 1 == 0 { Language::Ja } else { Language::En },
            opted_out: flags & 2 != 0,
            notify: flags & 4 != 0,
            feature_phone: answer(3),
            smartphone: answer(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::new(text).unwrap()
    }

    fn member(id: &str, logon: Logon) -> Member {
        let customer = Customer {
            id: CustomerId::new(id).unwrap(),
            name: "株式会社あ".repeat(30),
            email: vec![address("a@example.jp"), address("b@example.jp")],
            contact_name: None,
            cc: Vec::new(),
            fallback_email: vec![address("foo..bar@docomo.ne.jp")],
            phone: Some("03-0000-0000".to_owned()),
            language: Language::En,
            tenant_domain: None,
            feature_phone: Some(false),
            smartphone: Some(true),
            opted_out: true,
            done: vec![CampaignId("moved".to_owned())],
            notify: false,
            sites: vec![SiteName::new("本社").unwrap(), SiteName::new("支店").unwrap()],
        };
        Member { fingerprint: logon.fingerprint(), customer, logon }
    }

    fn logon(account: &str, password: Option<Password>, url: Option<&str>) -> Logon {
        Logon { account: account.to_owned(), password, url: url.map(|url| url.parse().unwrap()) }
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let given = |text: &str| Some(Password::Given(Secret::new(text.to_owned())));
        let source = Some(Password::Source(SecretSource::Credential("c2".to_owned())));
        let mut all = vec![
            member("Z", logon("", None, None)),
            member("顧客", logon("admin", given("パスワード"), Some("https://tool.example/logon.aspx?a=1"))),
            member("A", logon("admin2", source, None)),
        ];
        // More passwords than one piece holds, and one that is larger than a piece.
        all.extend((0..200).map(|n| member(&format!("n{n}"), logon("x", given(&format!("{n}").repeat(300)), None))));
        all.push(member("long", logon("x", given(&"長".repeat(PIECE)), None)));
        let plain = Customer {
            language: Language::Ja,
            opted_out: false,
            notify: true,
            feature_phone: None,
            smartphone: None,
            contact_name: Some("山田".to_owned()),
            ..all[0].customer.clone()
        };
        all[0].customer = plain;
        let packed: Members = all.iter().cloned().collect();
        assert_eq!(packed.len(), all.len());
        for (number, member) in all.iter().enumerate() {
            let id = &member.customer.id;
            assert_eq!(packed.number(id), Some(number), "{id}");
            assert_eq!(packed.id_at(number), *id);
            assert_eq!(packed.get(id).as_ref(), Some(&member.customer));
            let unpacked = packed.at(number);
            assert_eq!(unpacked.customer, member.customer);
            assert_eq!(unpacked.fingerprint, member.fingerprint, "{id}");
            assert_eq!((&unpacked.logon.account, &unpacked.logon.url), (&member.logon.account, &member.logon.url));
            let text = |logon: &Logon| match &logon.password {
                Some(Password::Given(secret)) => secret.expose().to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(text(&unpacked.logon), text(&member.logon), "{id}");
        }
        assert_eq!(packed.number(&CustomerId::new("nobody").unwrap()), None);
        let sorted: Vec<_> = packed.values().map(|customer| customer.id).collect();
        assert!(sorted.is_sorted());
        assert_eq!(format!("{packed:?}"), format!("{} customers", all.len()));
    }
}
