//! The customers file (CSV or TOML) -> customers, and quarantined rows. A row with an error quarantines that customer alone.

use crate::domain::customer::Customer;
use crate::domain::site::CustomerId;
use crate::secret::{Secret, SecretSource};

/// A customer with what is needed to log on.
#[derive(Debug, Clone)]
pub struct Member {
    /// The company.
    pub customer: Customer,
    /// Its account on the admin tool.
    pub logon: Logon,
    /// Changes when anything that a logon depends on changes (account, password, URL); never reveals it: a keyed digest's start.
    pub fingerprint: String,
}

/// An account on the admin tool.
#[derive(Debug, Clone)]
pub struct Logon {
    /// The administrator's account; empty where the connector needs none.
    pub account: String,
    /// Its password.
    pub password: Option<Password>,
    /// Where to log on, if not at the connector's `logon_url`.
    pub url: Option<url::Url>,
}

/// A password, or where it is.
#[derive(Debug, Clone)]
pub enum Password {
    /// Given in the file.
    Given(Secret),
    /// Read when it is needed.
    Source(SecretSource),
}

/// A row that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its id, where it has one: the customer is then `unreadable: inventory_error`.
    pub id: Option<CustomerId>,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What is wrong with it.
    pub errors: Vec<RowError>,
}

/// One error of one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The line in the file, from 1.
    pub line: u64,
    /// The column's name; `None`: the row as a whole.
    pub column: Option<String>,
    /// What is wrong and what to do. Never the cell's secret.
    pub message: String,
}

/// The whole file.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The good rows, in the file's order.
    pub members: Vec<Member>,
    /// The others.
    pub quarantined: Vec<Quarantined>,
}
