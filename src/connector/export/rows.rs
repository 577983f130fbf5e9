//! The rows of an export file by customer, outside of memory.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::super::Strangers;
use super::super::sheet::{MAX_SITES, Row};
use crate::domain::observation::{Failure, Reason};
use crate::domain::site::CustomerId;
use crate::spool::pack::{Packed, put_text};
use crate::spool::{Filling, Sorter, Table};

/// The rows of a whole file.
pub(super) struct Rows(Table);

impl Rows {
    /// A customer's rows, in the file's order.
    pub fn of(&self, customer: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        self.0.of(customer.as_bytes(), |value| {
            let mut cells = Packed(value);
            let [name, server_type, auth_method] =
                std::array::from_fn(|_| Some(cells.text()).filter(|text| !text.is_empty()).map(str::to_owned));
            rows.push(Row { name, server_type, auth_method });
            ControlFlow::Continue(())
        });
        rows
    }

    /// The rows of all customers but these, who come in the order of their ids, as the rows do.
    pub fn strangers(&self, known: &mut dyn Iterator<Item = CustomerId>) -> Strangers {
        let mut known = known.peekable();
        let mut found = Strangers::default();
        let mut last = Vec::new();
        for id in self.0.each(|id, _| id.to_vec()) {
            while known.next_if(|known| known.as_str().as_bytes() < &id[..]).is_some() {}
            if known.peek().is_some_and(|known| known.as_str().as_bytes() == id) {
                continue;
            }
            found.rows += 1;
            if found.customers == 0 || id != last {
                found.customers += 1;
                if found.first.len() < NAMED {
                    found.first.push(String::from_utf8_lossy(&id).into_owned());
                }
            }
            last = id;
        }
        found
    }
}

/// How many strangers are named.
const NAMED: usize = 3;

/// Rows as they are read.
pub(super) struct Gathering {
    rows: Sorter,
    spool: PathBuf,
    packed: Vec<u8>,
}

impl Gathering {
    pub fn new(spool: &Path) -> Self {
        Self { rows: Sorter::new(spool), spool: spool.to_owned(), packed: Vec::new() }
    }

    /// Takes a row: customer, and the three cells in the order of [`Row`]; what is not there is empty.
    pub fn push(&mut self, customer: &str, cells: [&str; 3]) -> Result<(), Failure> {
        self.packed.clear();
        cells.iter().for_each(|cell| put_text(&mut self.packed, cell));
        self.rows.push(customer.as_bytes(), &self.packed).map_err(|error| not_kept(&self.spool, &error))
    }

    pub fn done(self) -> Result<Rows, Failure> {
        let Self { rows, spool, .. } = self;
        let failed = |error: io::Error| not_kept(&spool, &error);
        let mut sorted = rows.sorted().map_err(failed)?;
        let mut filling = Filling::new(&spool);
        let (mut of, mut count) = (Vec::new(), 0);
        while let Some((customer, cells)) = sorted.next().map_err(failed)? {
            count = if customer == of { count + 1 } else { 1 };
            if count > MAX_SITES {
                return Err(Failure::new(Reason::TooLarge, format!("more than {MAX_SITES} sites of one customer")));
            }
            filling.push(&customer, &cells).map_err(failed)?;
            of = customer;
        }
        filling.done().map(Rows).map_err(failed)
    }
}

fn not_kept(spool: &Path, error: &io::Error) -> Failure {
    let dir = spool.display();
    Failure::new(Reason::Connect, format!("cannot keep the export file's rows in a temporary file in {dir}: {error}"))
}
