//! An export file in CSV -> its rows. UTF-8, or CP932 as Excel in Japan writes it.
//!
//! Records are split before their cells are decoded: neither encoding has a comma, a quote or a line end inside a character.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};

use encoding_rs::{DecoderResult, Encoding, SHIFT_JIS, UTF_8};

use super::rows::Gathering;
use super::{changed, from_start, unreadable};
use crate::config::ExportConfig;
use crate::domain::observation::Failure;

/// Reads all rows.
pub(super) fn read(config: &ExportConfig, file: &mut File, rows: &mut Gathering) -> Result<(), Failure> {
    let failed = |error| unreadable(config, &error);
    let mut encoding = None;
    for one in [UTF_8, SHIFT_JIS] {
        if encoding.is_none() && is_text(&mut from_start(config, file).map_err(failed)?, one).map_err(failed)? {
            encoding = Some(one);
        }
    }
    let encoding = encoding.ok_or_else(|| changed("the export file is neither UTF-8 nor CP932"))?;
    let mut reader = csv::Reader::from_reader(from_start(config, file).map_err(failed)?);
    let headers = reader.byte_headers().map_err(|_| changed("the export file's first line cannot be read"))?.clone();
    let column = |name: &str| {
        let mut found = headers.iter().enumerate().filter(|(_, header)| cell(header, encoding) == name).map(|(n, _)| n);
        match (found.next(), found.next()) {
            (Some(column), None) => Ok(column),
            (None, _) => Err(changed(format!("the export file has no column {name:?}"))),
            _ => Err(changed(format!("the export file has the column {name:?} twice"))),
        }
    };
    let fields = &config.fields;
    let customer = column(&config.customer)?;
    let cells = [column(&fields.name)?, column(&fields.server_type)?, column(&fields.auth_method)?];
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| not_read(config, error))? {
        let get = |column: usize| cell(record.get(column).unwrap_or_default(), encoding);
        let customer = get(customer);
        if customer.is_empty() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(changed(format!("the export file's line {line} names no customer")));
        }
        let [name, server, method] = cells.map(get);
        rows.push(&customer, [&name, &server, &method])?;
    }
    Ok(())
}

fn not_read(config: &ExportConfig, error: csv::Error) -> Failure {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => unreadable(config, &error),
        _ => changed(format!(
            "the export file's line {line} has another number of cells than its first, or cannot be read"
        )),
    }
}

/// Whether a source is text in that encoding throughout.
fn is_text(source: &mut impl Read, encoding: &'static Encoding) -> io::Result<bool> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut bytes = vec![0; 16 * 1024];
    let mut text = vec![0; 4 * bytes.len()];
    loop {
        let found = source.read(&mut bytes)?;
        let mut left = &bytes[..found];
        loop {
            let (result, read, _) = decoder.decode_to_utf8_without_replacement(left, &mut text, found == 0);
            left = &left[read..];
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => return Ok(false),
            }
        }
        if found == 0 {
            return Ok(true);
        }
    }
}

/// A cell's text, trimmed; the file is text, so this is too.
fn cell<'r>(bytes: &'r [u8], encoding: &'static Encoding) -> Cow<'r, str> {
    match encoding.decode_without_bom_handling(bytes).0 {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}
