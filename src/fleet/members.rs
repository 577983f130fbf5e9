//! The customers of a file outside of memory: each packed into a hundred bytes or so, sorted by id, and unpacked when it is
//! asked for. A fleet is in use for as long as the daemon runs, and memory does not grow with it.
//!
//! Invariants: what is unpacked equals what was packed; a password of the file lies on no disk in clear, for it is sealed
//! with a key that only this process knows.

mod sealed;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use self::sealed::Seal;
use super::{Logon, Member, Password};
use crate::domain::campaign::CampaignId;
use crate::domain::customer::{Address, Customer, Customers, Language};
use crate::domain::site::{CustomerId, SiteName};
use crate::secret::SecretSource;
use crate::spool::pack::{Packed, put_bytes, put_list, put_number, put_text};
use crate::spool::{Filling, Table};

/// All customers of a file, in the order of their ids. A customer's number is its place in it.
///
/// # Panics
/// Its methods panic when the temporary file cannot be read any more.
#[derive(Default)]
pub struct Members {
    table: Table,
    /// Whether one of them says in `done` what it has done.
    done: bool,
    seal: Option<Seal>,
}

/// Shows no customer.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} customers", self.len())
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
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// A customer's number.
    #[must_use]
    pub fn number(&self, id: &CustomerId) -> Option<usize> {
        self.table.place(id.as_str().as_bytes())
    }

    /// Whether there is such a customer.
    #[must_use]
    pub fn contains_key(&self, id: &CustomerId) -> bool {
        self.number(id).is_some()
    }

    /// Whether any customer's `done` says something.
    #[must_use]
    pub fn any_done(&self) -> bool {
        self.done
    }

    /// A customer without its logon.
    #[must_use]
    pub fn get(&self, id: &CustomerId) -> Option<Customer> {
        self.table.get(id.as_str().as_bytes(), |value| customer(id.clone(), &mut Packed(value)))
    }

    /// All customers.
    pub fn values(&self) -> impl Iterator<Item = Customer> + '_ {
        self.table.each(|key, value| customer(id(key), &mut Packed(value)))
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = CustomerId> + '_ {
        self.table.each(|key, _| id(key))
    }

    /// All ids and companies' names.
    pub fn names(&self) -> impl Iterator<Item = (CustomerId, String)> + '_ {
        self.table.each(|key, value| (id(key), name(value)))
    }

    /// The id of the one with that number.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn id_at(&self, number: usize) -> CustomerId {
        self.table.at(number, |key, _| id(key))
    }

    /// The one with that number, without its logon.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn customer_at(&self, number: usize) -> Customer {
        self.table.at(number, |key, value| customer(id(key), &mut Packed(value)))
    }

    /// The one with that number.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn at(&self, number: usize) -> Member {
        self.table.at(number, |key, value| self.member(id(key), value))
    }

    fn member(&self, id: CustomerId, value: &[u8]) -> Member {
        let mut packed = Packed(value);
        let customer = customer(id, &mut packed);
        let logon = Logon {
            account: packed.text().to_owned(),
            url: some(packed.text()).map(|text| text.parse().expect("it was a URL")),
            password: match packed.number() {
                NONE => None,
                GIVEN => {
                    let seal = self.seal.as_ref().expect("what is sealed has a seal");
                    Some(Password::Given(seal.open(packed.number(), packed.bytes())))
                }
                CREDENTIAL => Some(Password::Source(SecretSource::Credential(packed.text().to_owned()))),
                VARIABLE => Some(Password::Source(SecretSource::Env(packed.text().to_owned()))),
                _ => Some(Password::Source(SecretSource::File(OsStr::from_bytes(packed.bytes()).into()))),
            },
        };
        Member { fingerprint: logon.fingerprint(), customer, logon }
    }
}

const NONE: u64 = 0;
const GIVEN: u64 = 1;
const CREDENTIAL: u64 = 2;
const FILE: u64 = 3;
const VARIABLE: u64 = 4;

/// Packs members, each into what [`Shelving`] puts under its id.
#[derive(Default)]
pub(super) struct Packing {
    seal: Option<Seal>,
    done: bool,
}

impl Packing {
    /// Appends all of a member but its id.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, member: &Member) {
        let Member { customer, logon, .. } = member;
        self.done |= !customer.done.is_empty();
        put_text(out, &customer.name);
        put_number(out, flags(customer));
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
                let (number, sealed) = self.seal.get_or_insert_default().close(secret);
                put_number(out, GIVEN);
                put_number(out, number);
                put_bytes(out, &sealed);
            }
            Some(Password::Source(source)) => {
                let (kind, name) = match source {
                    SecretSource::Credential(name) => (CREDENTIAL, name.as_bytes()),
                    SecretSource::File(path) => (FILE, path.as_os_str().as_bytes()),
                    SecretSource::Env(name) => (VARIABLE, name.as_bytes()),
                };
                put_number(out, kind);
                put_bytes(out, name);
            }
        }
    }

    /// The members that were packed, once they are in order.
    pub(super) fn shelve(self, dir: &Path) -> Shelving {
        Shelving { filling: Filling::new(dir), packing: self }
    }
}

/// [`Members`] in the making: packed ones in the order of their ids.
pub(super) struct Shelving {
    filling: Filling,
    packing: Packing,
}

impl Shelving {
    /// Takes the next; no two have one id.
    pub(super) fn push(&mut self, id: &[u8], packed: &[u8]) -> io::Result<()> {
        self.filling.push(id, packed)
    }

    pub(super) fn done(self) -> io::Result<Members> {
        let Packing { seal, done } = self.packing;
        Ok(Members { table: self.filling.done()?, done, seal })
    }
}

/// The name of a packed member.
pub(super) fn name(packed: &[u8]) -> String {
    Packed(packed).text().to_owned()
}

/// An id that is a key.
pub(super) fn id(key: &[u8]) -> CustomerId {
    CustomerId::new(std::str::from_utf8(key).expect("it was a text")).expect("it was an id")
}

fn flags(customer: &Customer) -> u64 {
    let answer = |answer: Option<bool>| answer.map_or(0, |yes| 1 + u64::from(yes));
    u64::from(customer.language == Language::En)
        | u64::from(customer.opted_out) << 1
        | u64::from(customer.notify) << 2
        | answer(customer.feature_phone) << 3
        | answer(customer.smartphone) << 5
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The customer at the beginning of a packed member.
fn customer(id: CustomerId, packed: &mut Packed) -> Customer {
    let address = |text: &str| Address::new(text).expect("it was an address");
    let name = packed.text().to_owned();
    let flags = packed.number();
    let answer = |bits: u64| [None, Some(false), Some(true)][(flags >> bits & 3).min(2) as usize];
    let [contact_name, phone, tenant_domain] = std::array::from_fn(|_| some(packed.text()).map(str::to_owned));
    Customer {
        id,
        name,
        contact_name,
        phone,
        tenant_domain,
        email: packed.list(address),
        cc: packed.list(address),
        fallback_email: packed.list(address),
        done: packed.list(|text| CampaignId(text.to_owned())),
        sites: packed.list(|text| SiteName::new(text).expect("it was a site's name")),
        language: if flags & 1 == 0 { Language::Ja } else { Language::En },
        opted_out: flags & 2 != 0,
        notify: flags & 4 != 0,
        feature_phone: answer(3),
        smartphone: answer(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

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
        let file = SecretSource::File(OsStr::from_bytes(b"/secrets/\xff").into());
        all.push(member("file", logon("x", Some(Password::Source(file)), None)));
        all.push(member("variable", logon("x", Some(Password::Source(SecretSource::Env("V".to_owned()))), None)));
        all.extend((0..200).map(|n| member(&format!("n{n}"), logon("x", given(&format!("{n}").repeat(300)), None))));
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
        all.sort_by(|a, b| a.customer.id.cmp(&b.customer.id));
        let mut packing = Packing::default();
        let records: Vec<Vec<u8>> = all
            .iter()
            .map(|member| {
                let mut record = Vec::new();
                packing.put(&mut record, member);
                record
            })
            .collect();
        for secret in ["パスワード", &"77".repeat(300)] {
            let there = |record: &Vec<u8>| record.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!records.iter().any(there), "a password is sealed");
        }
        let mut shelving = packing.shelve(Path::new(""));
        for (member, record) in all.iter().zip(&records) {
            shelving.push(member.customer.id.as_str().as_bytes(), record).unwrap();
        }
        let packed = shelving.done().unwrap();
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
