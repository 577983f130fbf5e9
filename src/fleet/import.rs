//! A customers file as Excel in Japan writes it -> the same customers as a clean file that [`load`](super::load) takes.
//!
//! Understands Japanese names of columns, full-width letters and the marks people use for yes and no. It never drops a
//! column or a row that holds something: what is not understood is an error, and with an error nothing is written.

use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use super::RowError;
use super::charset;
use super::column::{Column, did_you_mean};
use super::csv::{Record, Records, bounded, header_names, missing};
use super::member;
use super::row::Row;
use crate::domain::site::CustomerId;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The clean file: UTF-8, LF, every column in the contract's order; `None` if there are errors. It may hold passwords, so
    /// only its owner may read it. A relative `password_file` stays as written: relative to where the clean file goes.
    pub csv: Option<String>,
    /// Everything that is wrong, with lines of the file as given.
    pub errors: Vec<RowError>,
}

/// Checks and cleans a customers file in CSV.
#[must_use]
pub fn import(bytes: &[u8]) -> Imported {
    match rows(bytes) {
        Ok(mut rows) => {
            rows.iter_mut().for_each(clean);
            let csv = write(&rows);
            let mut errors = wrong(rows);
            errors.sort_by_key(|e| e.line);
            Imported { csv: errors.is_empty().then_some(csv), errors }
        }
        Err(errors) => Imported { csv: None, errors },
    }
}

/// What is wrong with the rows themselves.
fn wrong(rows: Vec<Row>) -> Vec<RowError> {
    let ids = |row: &Row| {
        let id = CustomerId::new(row.shown(Column::CustomerId)).ok()?;
        Some((id, row.line))
    };
    let shared = member::shared(rows.iter().filter_map(ids).collect());
    let bad = rows.into_iter().filter_map(|row| member::one(row, &shared, Path::new("")).err());
    bad.flat_map(|quarantined| quarantined.errors).collect()
}

fn rows(bytes: &[u8]) -> Result<Vec<Row>, Vec<RowError>> {
    let whole = |message| vec![RowError { line: 1, column: None, message }];
    if bytes.len() as u64 > super::MAX_FILE {
        return Err(whole("the file is larger than 256 MiB".to_owned()));
    }
    let (charset, bytes) = charset::detect(bytes).map_err(|why| whole(why.to_string()))?;
    let mut records = Records::new(bytes);
    let header = header_names(records.next(), charset)?;
    let records = bounded(records)?;
    let columns = columns(&header, &records)?;
    Ok(records.into_iter().map(|r| r.into_row(&columns, charset)).collect())
}

fn columns(header: &[(u64, String)], records: &[Record]) -> Result<Vec<Option<Column>>, Vec<RowError>> {
    let mut columns: Vec<Option<Column>> = Vec::new();
    let mut errors = Vec::new();
    for (n, (line, name)) in header.iter().enumerate() {
        let mut fail = |line, message| errors.push(RowError { line, column: Some(name.clone()), message });
        let column = Column::parse_loosely(name);
        match column {
            Some(known) if columns.contains(&column) => {
                fail(*line, format!("two columns of the header mean `{}`; remove or rename one", known.name()));
            }
            Some(_) => {}
            None if name.is_empty() => {
                // Excel writes the columns right of the table along; they are left out as long as nothing stands in them.
                let filled = |r: &&Record| r.cells.get(n).is_some_and(|c| !c.bytes.trim_ascii().is_empty());
                if let Some(record) = records.iter().find(filled) {
                    fail(record.line, format!("cell {} holds something, but its column has no name", n + 1));
                }
            }
            None => fail(
                *line,
                format!("unknown column `{name}`; rename it, or remove it from the file{}", did_you_mean(name)),
            ),
        }
        columns.push(column);
    }
    errors.extend(missing(&columns));
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

fn edit(row: &mut Row, column: Column, change: impl FnOnce(&str) -> String) {
    if let Some(text) = row.text_mut(column) {
        *text = change(text);
    }
}

/// Brings a row's cells into the form [`load`](super::load) asks for. Names and passwords stay as they are.
fn clean(row: &mut Row) {
    for column in Column::ALL {
        match column {
            Column::CustomerId | Column::Account | Column::LogonUrl | Column::TenantDomain => edit(row, column, narrow),
            Column::Email | Column::Cc | Column::FallbackEmail => edit(row, column, addresses),
            Column::Phone => edit(row, column, phone),
            Column::Language => edit(row, column, language),
            Column::FeaturePhone | Column::Smartphone | Column::OptedOut | Column::Notify => edit(row, column, yes_no),
            Column::Done => edit(row, column, |text| joined(narrow(text).split([';', ',', '、']))),
            Column::Sites => edit(row, column, |text| joined(text.split([';', '；', '\r', '\n']))),
            Column::Name
            | Column::ContactName
            | Column::Password
            | Column::PasswordFile
            | Column::Credential
            | Column::Note => {}
        }
        let number_spoilt = matches!(column, Column::CustomerId | Column::Phone) && is_scientific(row.shown(column));
        if number_spoilt {
            row.fail(column, "was turned into a number such as 3.1E+09 by Excel; type it again as text");
        }
    }
}

/// Full-width letters, digits, signs and spaces -> their usual width.
fn narrow(text: &str) -> String {
    text.trim().nfkc().collect()
}

fn joined<'t>(parts: impl Iterator<Item = &'t str>) -> String {
    parts.map(str::trim).filter(|p| !p.is_empty()).collect::<Vec<_>>().join(";")
}

fn addresses(text: &str) -> String {
    let text = narrow(text);
    joined(text.split(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '、' | '/')))
}

fn phone(text: &str) -> String {
    /// What an input method offers for a hyphen: U+2010..=U+2015, the minus sign, the long vowel mark.
    fn hyphen(c: char) -> char {
        if matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}' | 'ー') { '-' } else { c }
    }
    narrow(text).chars().map(hyphen).collect()
}

fn language(text: &str) -> String {
    let text = narrow(text).to_lowercase();
    match text.as_str() {
        "日本語" | "和文" | "japanese" | "jp" => "ja".to_owned(),
        "英語" | "英文" | "english" => "en".to_owned(),
        _ => text,
    }
}

fn yes_no(text: &str) -> String {
    let text = narrow(text).to_lowercase();
    match text.as_str() {
        "はい" | "有" | "有り" | "あり" | "要" | "済" | "する" | "○" | "◯" | "〇" | "y" | "true" | "1" => {
            "yes".to_owned()
        }
        "いいえ" | "無" | "無し" | "なし" | "不要" | "未" | "しない" | "×" | "✕" | "n" | "false" | "0" => {
            "no".to_owned()
        }
        _ => text,
    }
}

/// `3.1E+09`
fn is_scientific(text: &str) -> bool {
    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.split_once("E+").is_some_and(|(mantissa, exponent)| number(mantissa) && number(exponent))
}

fn write(rows: &[Row]) -> String {
    let mut writer = ::csv::WriterBuilder::new().from_writer(Vec::new());
    let header = std::iter::once(Column::ALL.map(Column::name));
    for record in header.chain(rows.iter().map(|row| Column::ALL.map(|c| row.shown(c)))) {
        writer.write_record(record).expect("writing to memory does not fail");
    }
    let bytes = writer.into_inner().expect("writing to memory does not fail");
    String::from_utf8(bytes).expect("only texts were written")
}
