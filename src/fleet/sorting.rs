//! Rows in the file's order -> customers in the order of their ids, and rows that share an id set aside.
//!
//! What a row's id is worth is known once all others were seen: those with one id meet where all are sorted. Invariant: of
//! rows that share an id none is a customer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::column::Column;
use super::member::{self, Shared};
use super::members::{self, Packing, Shelving};
use super::row::Row;
use super::{FleetError, Quarantined, Roster, RowError};
use crate::spool::pack::{Packed, put_number};
use crate::spool::{Sorted, Sorter};

/// A good row; what follows is the packed customer.
const GOOD: u64 = 0;

/// A bad row; what follows is its place among the quarantined.
const BAD: u64 = 1;

/// The rows of a file, on their way into order.
pub(super) struct Sorting {
    spool: PathBuf,
    rows: Sorter,
    packing: Packing,
    /// With the line on which it begins.
    quarantined: Vec<(u64, Quarantined)>,
    record: Vec<u8>,
}

/// One row of several with one id: its line, the line of the id itself, and the rest.
struct Double {
    line: u64,
    id_line: u64,
    value: Vec<u8>,
}

impl Sorting {
    pub fn new(spool: &Path) -> Self {
        Self {
            spool: spool.to_owned(),
            rows: Sorter::new(spool),
            packing: Packing::default(),
            quarantined: Vec::new(),
            record: Vec::new(),
        }
    }

    /// Takes the next row.
    pub fn push(&mut self, row: Row, base: &Path) -> Result<(), FleetError> {
        let (line, id_line) = (row.line, row.line_of(Column::CustomerId));
        let out = &mut self.record;
        out.clear();
        put_number(out, line);
        put_number(out, id_line);
        let id = match member::one(row, &Shared::new(), base) {
            Ok(member) => {
                put_number(out, GOOD);
                self.packing.put(out, &member);
                Some(member.customer.id)
            }
            Err(bad) => {
                put_number(out, BAD);
                put_number(out, self.quarantined.len() as u64);
                let id = bad.id.clone();
                self.quarantined.push((line, bad));
                id
            }
        };
        let Some(id) = id else { return Ok(()) };
        let pushed = self.rows.push(id.as_str().as_bytes(), out);
        pushed.map_err(|source| FleetError::Spool { dir: self.spool.clone(), source })
    }

    /// The customers in order, and the others.
    pub fn done(self) -> Result<Roster, FleetError> {
        let Self { spool, rows, packing, mut quarantined, .. } = self;
        let members = rows.sorted().and_then(|rows| shelve(rows, packing.shelve(&spool), &mut quarantined));
        let members = members.map_err(|source| FleetError::Spool { dir: spool, source })?;
        quarantined.sort_by_key(|(line, _)| *line);
        Ok(Roster {
            members: Arc::new(members),
            quarantined: quarantined.into_iter().map(|(_, quarantined)| quarantined).collect(),
        })
    }
}

fn shelve(
    mut rows: Sorted,
    mut shelving: Shelving,
    quarantined: &mut Vec<(u64, Quarantined)>,
) -> std::io::Result<members::Members> {
    let mut next = rows.next()?;
    while let Some((key, value)) = next {
        next = rows.next()?;
        let mut same = vec![value];
        while let Some((_, value)) = next.take_if(|(following, _)| *following == key) {
            same.push(value);
            next = rows.next()?;
        }
        match same.as_slice() {
            [alone] => {
                let mut packed = Packed(alone);
                let (_, _, kind) = (packed.number(), packed.number(), packed.number());
                if kind == GOOD {
                    shelving.push(&key, packed.0)?;
                }
            }
            _ => set_aside(&key, same, quarantined),
        }
    }
    shelving.done()
}

/// Rows that share an id are all quarantined: nobody can say which is right.
fn set_aside(key: &[u8], same: Vec<Vec<u8>>, quarantined: &mut Vec<(u64, Quarantined)>) {
    let double = |value: Vec<u8>| {
        let mut packed = Packed(&value);
        Double { line: packed.number(), id_line: packed.number(), value: packed.0.to_vec() }
    };
    let rows: Vec<Double> = same.into_iter().map(double).collect();
    let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
    for Double { line, id_line, value } in rows {
        let message = member::stands_elsewhere(&lines, line);
        let error = RowError { line: id_line, column: Some(Column::CustomerId.name().to_owned()), message };
        let mut packed = Packed(&value);
        if packed.number() == GOOD {
            let name = Some(members::name(packed.0));
            quarantined.push((line, Quarantined { id: Some(members::id(key)), name, errors: vec![error] }));
        } else {
            // Where the row's own errors have it: after what concerns the whole row, before other cells of its line.
            let errors = &mut quarantined[packed.number() as usize].1.errors;
            let place = errors.iter().position(|e| e.line > id_line || e.line == id_line && e.column.is_some());
            errors.insert(place.unwrap_or(errors.len()), error);
        }
    }
}
