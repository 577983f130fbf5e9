//! Builds a fleet of invented customers: the admin tool's world, the customers file that kigen reads, and the people.
//!
//! About 45 % are affected, 30 % have switched already, 15 % run their own server, and 10 % cannot be read, one for every
//! kind of fault in turn. The same options give the same fleet.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chrono::NaiveDate;

use super::admin_tool::{Fault, Variant, World, WorldCustomer, WorldSite};
use super::microsoft::LoginWorld;
use super::microsoft::forgetful::Administrators;
use super::people::{People, Person};
use super::{names, random::Random};
use crate::domain::calendar::Calendar;
use crate::domain::observation::Verdict;
use crate::domain::site::{AuthMethod, ServerType};

/// How large, and which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetOptions {
    /// How many customers; 0 to 9999.
    pub customers: usize,
    /// Decides everything.
    pub seed: u64,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self { customers: 200, seed: 20_221_001 }
    }
}

/// A customer's row in the customers file, besides what the tool knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `customer_id`
    pub id: String,
    /// `name`
    pub name: String,
    /// `email`, as it stands in the file.
    pub email: Vec<String>,
    /// `contact_name`; empty = unknown.
    pub contact_name: String,
    /// `cc`
    pub cc: Vec<String>,
    /// `fallback_email`; empty = none.
    pub fallback_email: String,
    /// `phone`
    pub phone: String,
    /// `language`: `ja` or `en`.
    pub language: &'static str,
    /// `account`
    pub account: String,
    /// `password`
    password: String,
    /// `tenant_domain`
    pub tenant_domain: String,
    /// `feature_phone`: `yes`, `no` or empty.
    pub feature_phone: &'static str,
    /// `smartphone`: `yes`, `no` or empty.
    pub smartphone: &'static str,
    /// `opted_out`
    pub opted_out: bool,
    /// `notify`
    pub notify: bool,
    /// `sites`; empty = all.
    pub sites: Vec<String>,
    /// `note`
    pub note: String,
}

/// The columns of the customers file, in the order they are written.
const COLUMNS: [&str; 17] = [
    "customer_id",
    "name",
    "email",
    "contact_name",
    "cc",
    "fallback_email",
    "phone",
    "language",
    "account",
    "password",
    "tenant_domain",
    "feature_phone",
    "smartphone",
    "opted_out",
    "notify",
    "sites",
    "note",
];

/// The whole fleet.
#[derive(Debug)]
pub struct DemoFleet {
    /// What the admin tool knows.
    pub world: World,
    /// What the customers file says, in the same order.
    pub rows: Vec<Row>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Affected,
    Switched,
    OnPremises,
    Broken(Fault),
}

/// Builds it.
#[must_use]
pub fn build(options: FleetOptions) -> DemoFleet {
    let mut random = Random::new(options.seed);
    let kinds = kinds(options.customers.min(9999), &mut random);
    let mut passing = Fault::ALL.into_iter().filter(|fault| fault.is_once()).cycle();
    let (mut customers, mut rows) = (Vec::new(), Vec::new());
    for (number, kind) in kinds.into_iter().enumerate() {
        let mut customer = customer(number, kind, &mut random);
        // Some of the affected ones have a fault that passes: a scan must get over it.
        if kind == Kind::Affected
            && number % 9 == 4
            && let Some(fault) = passing.next()
        {
            customer = customer.with_fault(fault);
        }
        rows.push(row(number, &customer, &mut random));
        customers.push(customer);
    }
    DemoFleet { world: World::new(customers, options.seed), rows, seed: options.seed }
}

fn kinds(count: usize, random: &mut Random) -> Vec<Kind> {
    let share = |percent: usize| (count * percent + 50) / 100;
    let (switched, on_premises, broken) = (share(30), share(15), share(10));
    let faults = Fault::ALL.into_iter().filter(|fault| !fault.is_once()).cycle();
    let mut kinds: Vec<Kind> = faults.take(broken).map(Kind::Broken).collect();
    kinds.extend(std::iter::repeat_n(Kind::Switched, switched));
    kinds.extend(std::iter::repeat_n(Kind::OnPremises, on_premises));
    // Rounding may give a fleet of one or two more than there is room for.
    kinds.truncate(count);
    kinds.resize(count, Kind::Affected);
    random.shuffle(&mut kinds);
    kinds
}

fn customer(number: usize, kind: Kind, random: &mut Random) -> WorldCustomer {
    let variant = Variant::ALL[number % Variant::ALL.len()];
    let least = match kind {
        // With one site only, the wrong one cannot be shown.
        Kind::Broken(Fault::WrongSiteShown) => 2,
        _ => 1,
    };
    let count = random.weighted(&[(1, 50), (2, 25), (3, 13), (4, 8), (5, 4)]).max(least);
    let names = names::sites(count, random);
    let sites = names.iter().enumerate().map(|(at, name)| site(at, name, kind, random)).collect();
    let id = format!("C{:04}", number + 1);
    let mut customer = WorldCustomer::new(&id, sites).with_variant(variant);
    customer.name = names::company(number, random);
    customer.password = format!("{:012x}", random.number() >> 16);
    match kind {
        Kind::Broken(fault) => customer.with_fault(fault),
        _ => customer,
    }
}

/// The first site is as the customer is; the others mostly are, too.
fn site(at: usize, name: &str, kind: Kind, random: &mut Random) -> WorldSite {
    let online = ServerType::ExchangeOnline;
    let (server_type, method) = match kind {
        Kind::Switched => (online, AuthMethod::OAuth),
        Kind::OnPremises => (ServerType::OnPremises, AuthMethod::OnPremisesBasic),
        Kind::Affected | Kind::Broken(_) if at == 0 || random.percent(70) => (online, AuthMethod::Basic),
        Kind::Affected | Kind::Broken(_) if random.percent(70) => (online, AuthMethod::OAuth),
        Kind::Affected | Kind::Broken(_) => (ServerType::OnPremises, AuthMethod::OnPremisesBasic),
    };
    WorldSite::new(name, server_type, method)
}

fn row(number: usize, customer: &WorldCustomer, random: &mut Random) -> Row {
    let domain = format!("{}.example", customer.id.to_lowercase());
    let address = |name: &str| format!("{name}@{domain}");
    let is_broken = customer.fault == Some(Fault::BrokenRow);
    let mut email = vec![if is_broken { format!("it-admin@@{domain}") } else { address("it-admin") }];
    if random.percent(20) {
        email.push(address("joho-system"));
    }
    let yes_no = |random: &mut Random, yes, no| random.weighted(&[("yes", yes), ("no", no), ("", 100 - yes - no)]);
    // A few name the sites to look at; the others mean all.
    let mut sites = customer.asked.clone();
    if sites.is_empty() && customer.fault.is_none() && random.percent(8) {
        sites = customer.sites.iter().map(|site| site.name.clone()).collect();
    }
    Row {
        id: customer.id.clone(),
        name: customer.name.clone(),
        email,
        contact_name: if random.percent(85) { names::person(random) } else { String::new() },
        cc: if random.percent(15) { vec![address("somu")] } else { Vec::new() },
        fallback_email: if random.percent(30) { address("daihyo") } else { String::new() },
        phone: format!("03-0000-{:04}", number + 1),
        language: if random.percent(4) { "en" } else { "ja" },
        account: customer.account.clone(),
        password: customer.password.clone(),
        tenant_domain: domain.clone(),
        feature_phone: yes_no(random, 12, 60),
        smartphone: yes_no(random, 55, 20),
        opted_out: random.percent(5),
        notify: !random.percent(2),
        sites,
        note: if random.percent(5) { "担当者変更の予定あり, 要確認".to_owned() } else { String::new() },
    }
}

impl DemoFleet {
    /// Writes `customers.csv` so that only its owner can read it: it holds the passwords.
    ///
    /// # Errors
    /// When the file is there already or cannot be written.
    pub fn write_customers(&self, path: &Path) -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(COLUMNS)?;
        for row in &self.rows {
            writer.write_record(row.cells())?;
        }
        writer.flush()?;
        writer.into_inner().map_err(|error| std::io::Error::other(error.to_string()))?.flush()
    }

    /// Whose contact that address is.
    #[must_use]
    pub fn customer_of(&self, address: &str) -> Option<&str> {
        if address.is_empty() {
            return None;
        }
        let is_contact = |row: &&Row| {
            let mut contacts = row.email.iter().chain(&row.cc).chain(std::iter::once(&row.fallback_email));
            contacts.any(|contact| contact.eq_ignore_ascii_case(address))
        };
        self.rows.iter().find(is_contact).map(|row| row.id.as_str())
    }

    /// The administrators of the customers' tenants, who are put into the login service's world.
    #[must_use]
    pub fn administrators(&self, login: &mut LoginWorld, calendar: Calendar) -> Administrators {
        let uses_oauth = |c: &WorldCustomer| c.sites.iter().any(|site| site.verdict() == Verdict::Switched);
        let fleet = self.world.customers.iter().zip(&self.rows);
        let fleet = fleet.map(|(c, row)| (c.id.as_str(), row.tenant_domain.as_str(), uses_oauth(c)));
        Administrators::new(fleet, login, calendar, self.seed)
    }

    /// Whose domain it is.
    #[must_use]
    pub fn domain_of(&self, customer: &str) -> Option<&str> {
        self.rows.iter().find(|row| row.id == customer).map(|row| row.tenant_domain.as_str())
    }

    /// The people behind the affected sites; each company's deadline is the postponed one if it opted out.
    #[must_use]
    pub fn people(&self, calendar: Calendar, deadline: NaiveDate, postponed_to: NaiveDate) -> People {
        let mut people = Vec::new();
        for (number, (customer, row)) in self.world.customers.iter().zip(&self.rows).enumerate() {
            let affected = customer.sites.iter().filter(|site| site.verdict() == Verdict::Affected);
            let sites: Vec<String> = affected.map(|site| site.name.clone()).collect();
            if !sites.is_empty() {
                let until = if row.opted_out { postponed_to } else { deadline };
                people.push(Person::new(&customer.id, sites, until, self.seed ^ (number as u64) << 20));
            }
        }
        People::new(people, calendar)
    }
}

impl Row {
    fn cells(&self) -> [String; 17] {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        [
            self.id.clone(),
            self.name.clone(),
            self.email.join(";"),
            self.contact_name.clone(),
            self.cc.join(";"),
            self.fallback_email.clone(),
            self.phone.clone(),
            self.language.to_owned(),
            self.account.clone(),
            self.password.clone(),
            self.tenant_domain.clone(),
            self.feature_phone.to_owned(),
            self.smartphone.to_owned(),
            yes_no(self.opted_out),
            yes_no(self.notify),
            self.sites.join(";"),
            self.note.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::domain::customer::Address;

    #[test]
    fn the_mix_is_as_promised_and_every_kind_of_fault_is_there() {
        let fleet = build(FleetOptions::default());
        let customers = &fleet.world.customers;
        assert_eq!(customers.len(), 200);
        let unreadable = customers.iter().filter(|c| c.fault.is_some_and(|fault| !fault.is_once())).count();
        assert_eq!(unreadable, 20);
        let faults: BTreeSet<Fault> = customers.iter().filter_map(|customer| customer.fault).collect();
        assert_eq!(faults, Fault::ALL.into_iter().collect(), "all kinds");
        let variants: BTreeSet<Variant> = customers.iter().map(|customer| customer.variant).collect();
        assert_eq!(variants.len(), Variant::ALL.len());
        let first = |verdict| {
            customers.iter().filter(|c| c.fault.is_none_or(Fault::is_once) && c.sites[0].verdict() == verdict).count()
        };
        assert_eq!(
            [first(Verdict::Affected), first(Verdict::Switched), first(Verdict::NotExchangeOnline)],
            [90, 60, 30]
        );
        assert!(fleet.rows.iter().any(|row| row.language == "en") && fleet.rows.iter().any(|row| row.opted_out));
        assert!(fleet.rows.iter().any(|row| !row.notify) && fleet.rows.iter().any(|row| !row.sites.is_empty()));
    }

    #[test]
    fn a_fleet_of_any_size_can_be_built_and_is_the_same_again() {
        for customers in [0, 1, 2, 3, 7, 50] {
            let options = FleetOptions { customers, seed: 5 };
            let fleet = build(options);
            assert_eq!(fleet.rows.len(), customers);
            assert_eq!(fleet.rows, build(options).rows);
            assert_eq!(fleet.world.expected(), build(options).world.expected());
        }
    }

    #[test]
    fn the_file_is_the_owners_alone_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("customers.csv");
        let fleet = build(FleetOptions::default());
        fleet.write_customers(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fleet.write_customers(&path).is_err(), "nothing is overwritten");

        let mut reader = csv::Reader::from_path(&path).unwrap();
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len(), 200);
        for (record, row) in records.iter().zip(&fleet.rows) {
            assert_eq!(record.iter().collect::<Vec<_>>(), row.cells());
        }
    }

    #[test]
    fn every_address_but_the_broken_row_s_is_one_and_leads_back_to_its_customer() {
        let fleet = build(FleetOptions::default());
        let mut bad = 0;
        for row in &fleet.rows {
            for address in row.email.iter().chain(&row.cc) {
                assert_eq!(fleet.customer_of(address), Some(row.id.as_str()));
                bad += usize::from(Address::new(address).is_err());
            }
        }
        assert_eq!((bad, fleet.customer_of("nobody@else.example"), fleet.customer_of("")), (1, None, None));
    }

    #[test]
    fn expectations_name_every_site_once() {
        let expected = build(FleetOptions::default()).world.expected();
        let keys: BTreeSet<_> = expected.iter().map(|e| (e.customer.clone(), e.site.clone())).collect();
        assert_eq!(keys.len(), expected.len());
        let reasons: BTreeSet<_> = expected.iter().filter_map(|e| e.verdict.reason()).collect();
        let all: BTreeSet<_> = Fault::ALL.into_iter().filter_map(Fault::expected_reason).collect();
        assert_eq!(reasons, all, "every reason occurs in the default fleet");
    }
}
