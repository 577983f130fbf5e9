//! CSV bytes -> records of cells with their lines (RFC 4180), and the header.
//!
//! An own reader, because the `csv` crate forgives what must be told here: a quote that is never closed would silently
//! swallow every customer below it, and text after a closing quote would become part of the cell. A record with such a fault
//! is reported and reading goes on at the line after the one where it began, so one stray quote costs one row.
//!
//! Works on bytes before they are decoded: neither UTF-8 nor CP932 has a comma, a quote or a line end inside a character.

use std::borrow::Cow;
use std::io::{self, Read};

use super::RowError;
use super::charset::Charset;
use super::column::{Column, did_you_mean};
use super::row::{Cell, Given, Row};

/// The longest cell; what is longer misses a quote.
const MAX_CELL: usize = 64 * 1024;

/// The most cells of one record.
const MAX_CELLS: usize = 256;

/// One cell's bytes, unquoted.
pub(super) struct RawCell<'b> {
    /// The line it begins on.
    pub line: u64,
    pub bytes: Cow<'b, [u8]>,
}

/// One row of the file.
pub(super) struct Record<'b> {
    /// The line it begins on.
    pub line: u64,
    /// The cells; with a fault, those before it.
    pub cells: Vec<RawCell<'b>>,
    /// What is wrong with its quotes, and on which line.
    pub fault: Option<(u64, String)>,
}

/// Reads record by record; blank lines are no records.
#[derive(Clone)]
pub(super) struct Records<'b> {
    bytes: &'b [u8],
    at: usize,
    line: u64,
    /// How far it has looked: what comes after cannot have mattered.
    seen: usize,
}

/// What ended a cell.
#[derive(PartialEq)]
enum End {
    Comma,
    Line,
}

impl<'b> Records<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0, line: 1, seen: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Steps over one line end (`\n`, `\r\n` or the `\r` of old Macs), if one is here.
    fn line_end(&mut self) -> bool {
        let width = match &self.bytes[self.at..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => return false,
        };
        self.at += width;
        self.line += 1;
        true
    }

    fn cell(&mut self) -> Result<(RawCell<'b>, End), (u64, String)> {
        let line = self.line;
        let bytes = if self.peek() == Some(b'"') { self.quoted()? } else { self.bare()? };
        let end = match self.peek() {
            Some(b',') => {
                self.at += 1;
                End::Comma
            }
            None => End::Line,
            Some(_) if self.line_end() => End::Line,
            Some(_) => {
                return Err((
                    self.line,
                    "a quoted cell goes on after its closing quote; a quote inside it is written \"\"".to_owned(),
                ));
            }
        };
        Ok((RawCell { line, bytes }, end))
    }

    fn bare(&mut self) -> Result<Cow<'b, [u8]>, (u64, String)> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|b| matches!(b, b',' | b'\r' | b'\n')).unwrap_or(rest.len());
        let bytes = &rest[..length];
        if bytes.contains(&b'"') {
            return Err((
                self.line,
                "a quote inside a cell that is not quoted; put the whole cell in quotes and write the quote as \"\""
                    .to_owned(),
            ));
        }
        if length > MAX_CELL {
            return Err((self.line, too_long()));
        }
        self.at += length;
        Ok(Cow::Borrowed(bytes))
    }

    fn quoted(&mut self) -> Result<Cow<'b, [u8]>, (u64, String)> {
        let opened = self.line;
        self.at += 1;
        let mut cell = Vec::new();
        loop {
            let start = self.at;
            if self.line_end() {
                cell.extend_from_slice(&self.bytes[start..self.at]);
            } else {
                match &self.bytes[start..] {
                    [b'"', b'"', ..] => {
                        cell.push(b'"');
                        self.at += 2;
                    }
                    [b'"', ..] => {
                        self.at += 1;
                        return Ok(Cow::Owned(cell));
                    }
                    [byte, ..] => {
                        cell.push(*byte);
                        self.at += 1;
                    }
                    [] => return Err((opened, "a quote is opened here and never closed".to_owned())),
                }
            }
            if cell.len() > MAX_CELL {
                return Err((opened, too_long()));
            }
        }
    }

    /// Goes to the line after the one that begins at `start`.
    fn resume_after(&mut self, start: usize, line: u64) {
        let rest = &self.bytes[start..];
        self.at = start + rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
        self.line = line;
        self.line_end();
    }
}

fn too_long() -> String {
    format!("a cell is longer than {} KiB; is a closing quote missing?", MAX_CELL / 1024)
}

impl<'b> Iterator for Records<'b> {
    type Item = Record<'b>;

    fn next(&mut self) -> Option<Record<'b>> {
        while self.line_end() {}
        self.seen = self.seen.max(self.at);
        self.peek()?;
        let (start, line) = (self.at, self.line);
        let mut cells = Vec::new();
        let fault = loop {
            match self.cell() {
                Ok((cell, end)) => {
                    cells.push(cell);
                    if end == End::Line {
                        break None;
                    }
                    if cells.len() == MAX_CELLS {
                        break Some((line, format!("the row has more than {MAX_CELLS} cells")));
                    }
                }
                Err(fault) => break Some(fault),
            }
        };
        self.seen = self.seen.max(self.at);
        if fault.is_some() {
            self.resume_after(start, line);
        }
        self.seen = self.seen.max(self.at);
        Some(Record { line, cells, fault })
    }
}

impl Record<'_> {
    /// No cell holds anything: what Excel leaves of a row that was cleared.
    pub fn is_blank(&self) -> bool {
        self.fault.is_none() && self.cells.iter().all(|c| c.bytes.iter().all(u8::is_ascii_whitespace))
    }

    /// The row's cells by column, decoded. `columns` are the header's; `None` is a column that is left out.
    pub fn into_row(self, columns: &[Option<Column>], charset: Charset) -> Row {
        let mut row = Row::new(self.line);
        let (found, expected) = (self.cells.len(), columns.len());
        if let Some((line, message)) = self.fault {
            row.misaligned = true;
            row.errors.push(RowError { line, column: None, message });
        } else if found != expected {
            row.misaligned = true;
            let message = format!(
                "the row has {found} cells, the header has {expected}; a cell with a comma in it must stand in quotes"
            );
            row.errors.push(RowError { line: self.line, column: None, message });
        }
        // Such a row's password may stand in any of its cells.
        row.exposes = row.misaligned && columns.contains(&Some(Column::Password));
        for (cell, column) in self.cells.into_iter().zip(columns) {
            let Some(column) = *column else { continue };
            let given = charset.decode(&cell.bytes).map_or_else(
                || Given::Bad(format!("holds bytes that are no {}; type the cell again and save", charset.name())),
                Given::Text,
            );
            // Of a row whose cells may stand in the wrong columns, only the first can be trusted.
            if !row.misaligned || column == Column::CustomerId && columns.first() == Some(&Some(Column::CustomerId)) {
                row.set(column, Cell { line: cell.line, given });
            }
        }
        row
    }
}

/// Records of a source that is never in memory as a whole, only from the record that is read to where reading has come.
pub(super) struct Reading<R> {
    source: R,
    window: Vec<u8>,
    /// Where in the window the next record begins, and on which line.
    at: usize,
    line: u64,
    ended: bool,
    /// So much is read at once, at least.
    step: usize,
}

/// So much is usually read at once.
const READ: usize = 64 * 1024;

impl<R: Read> Reading<R> {
    pub fn new(source: R) -> Self {
        Self { source, window: Vec::new(), at: 0, line: 1, ended: false, step: READ }
    }

    /// Hands out the next record; `None` at the end.
    pub fn next<T>(&mut self, take: impl FnOnce(Record<'_>) -> T) -> io::Result<Option<T>> {
        loop {
            let bytes = &self.window[self.at..];
            let mut records = Records { bytes, at: 0, line: self.line, seen: 0 };
            let record = records.next();
            // Where the end of the window was seen, what comes after it may change what was read.
            if self.ended || records.seen < bytes.len() {
                let (at, line) = (self.at + records.at, records.line);
                let taken = record.map(take);
                (self.at, self.line) = (at, line);
                return Ok(taken);
            }
            self.more()?;
        }
    }

    /// Reads as much again as is there: a long record is not tried over and over. It has its bounds, and so has this.
    fn more(&mut self) -> io::Result<()> {
        self.window.drain(..self.at);
        self.at = 0;
        let wanted = self.step.max(self.window.len()) as u64;
        let found = self.source.by_ref().take(wanted).read_to_end(&mut self.window)?;
        self.ended = (found as u64) < wanted;
        Ok(())
    }
}

/// A strict file, its header read.
pub(super) struct Sheet<R> {
    /// What follows the header.
    records: Reading<R>,
    columns: Vec<Option<Column>>,
    charset: Charset,
}

impl<R: Read> Sheet<R> {
    /// Reads the header, or says everything that is wrong with it.
    pub fn of(source: R, charset: Charset) -> io::Result<Result<Self, Vec<RowError>>> {
        let mut records = Reading::new(source);
        let header = records.next(|record| header_names(Some(record), charset))?;
        let columns = header.unwrap_or_else(|| header_names(None, charset)).and_then(|header| columns(&header));
        Ok(columns.map(|columns| Self { records, columns, charset }))
    }

    /// The next row that holds something; an error if there are too many.
    pub fn next(&mut self, rows: usize) -> io::Result<Option<Result<Row, RowError>>> {
        let (columns, charset) = (&self.columns, self.charset);
        loop {
            let row = self.records.next(|record| match record.is_blank() {
                true => None,
                false if rows == super::MAX_CUSTOMERS => Some(Err(too_many(&record))),
                false => Some(Ok(record.into_row(columns, charset))),
            })?;
            match row {
                None => return Ok(None),
                Some(None) => {}
                Some(row) => return Ok(row),
            }
        }
    }
}

fn too_many(record: &Record) -> RowError {
    let message = format!("the file has more than {} rows", super::MAX_CUSTOMERS);
    RowError { line: record.line, column: None, message }
}

/// The header's cells, trimmed, each with its line.
pub(super) fn header_names(header: Option<Record<'_>>, charset: Charset) -> Result<Vec<(u64, String)>, Vec<RowError>> {
    let whole = |line, message: String| vec![RowError { line, column: None, message }];
    let Some(header) = header else {
        return Err(whole(1, "the file is empty; its first line must name the columns".to_owned()));
    };
    if let Some((line, fault)) = header.fault {
        return Err(whole(line, format!("the header cannot be read: {fault}")));
    }
    let names: Option<Vec<_>> =
        header.cells.iter().map(|c| Some((c.line, charset.decode(&c.bytes)?.trim().to_owned()))).collect();
    let names =
        names.ok_or_else(|| whole(header.line, format!("the header holds bytes that are no {}", charset.name())))?;
    if let [(line, only)] = names.as_slice() {
        for (separator, called) in [('\t', "tabs"), (';', "semicolons")] {
            if only.contains(separator) {
                return Err(whole(
                    *line,
                    format!("the header's names are separated by {called}; save the file with commas (CSV)"),
                ));
            }
        }
    }
    Ok(names)
}

/// The records that hold something, if they are not too many for the memory.
pub(super) fn bounded(records: Records) -> Result<Vec<Record>, Vec<RowError>> {
    let mut rows = Vec::new();
    for record in records.filter(|r| !r.is_blank()) {
        if rows.len() == super::MAX_CUSTOMERS {
            return Err(vec![too_many(&record)]);
        }
        rows.push(record);
    }
    Ok(rows)
}

fn columns(header: &[(u64, String)]) -> Result<Vec<Option<Column>>, Vec<RowError>> {
    let mut columns = Vec::new();
    let mut errors = Vec::new();
    for (n, (line, name)) in header.iter().enumerate() {
        let mut fail = |message| errors.push(RowError { line: *line, column: Some(name.clone()), message });
        match Column::parse(name) {
            Some(column) if columns.contains(&Some(column)) => fail("the column stands in the header twice".to_owned()),
            Some(column) => columns.push(Some(column)),
            None if name.is_empty() => {
                fail(format!("cell {} of the header is empty; every column needs a name", n + 1))
            }
            None if Column::parse_loosely(name).is_some() => {
                fail(format!(
                    "unknown column `{name}`{}; `kigen import` does so for the whole file",
                    did_you_mean(name)
                ));
            }
            None => fail(format!("unknown column `{name}`{}", did_you_mean(name))),
        }
    }
    errors.extend(missing(&columns));
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

/// One error for each required column that is not there.
pub(super) fn missing(columns: &[Option<Column>]) -> impl Iterator<Item = RowError> {
    Column::REQUIRED.into_iter().filter(|c| !columns.contains(&Some(*c))).map(|c| RowError {
        line: 1,
        column: Some(c.name().to_owned()),
        message: format!("the required column `{}` is missing in the header", c.name()),
    })
}

#[cfg(test)]
mod tests;
