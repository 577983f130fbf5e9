//! The customers file as CSV: what is read, and what is quarantined where.

use proptest::prelude::*;

use super::{Reading, Record, Records};

/// Records as `line: cells`, a fault as `line! line of the fault`; the same from memory and as they are read.
fn read(text: &str) -> Vec<String> {
    let all: Vec<String> = Records::new(text.as_bytes()).map(|record| shown(&record)).collect();
    assert_eq!(reading(text.as_bytes()), all, "{text:?}");
    all
}

fn shown(r: &Record<'_>) -> String {
    match r.fault {
        Some((line, _)) => format!("{}! {line}", r.line),
        None => {
            let cells: Vec<_> = r.cells.iter().map(|c| String::from_utf8_lossy(&c.bytes).into_owned()).collect();
            format!("{}: {}", r.line, cells.join("|"))
        }
    }
}

/// Read bytewise at first, so that the window ends inside of almost everything.
fn reading(bytes: &[u8]) -> Vec<String> {
    let mut reading = Reading::new(bytes);
    reading.step = 1;
    std::iter::from_fn(|| reading.next(|record| shown(&record)).unwrap()).collect()
}

#[test]
fn records_and_their_lines() {
    let check = |text: &str, expected: &[&str], why: &str| assert_eq!(read(text), expected, "{why}");
    check("", &[], "nothing");
    check("a,b\nc,d\n", &["1: a|b", "2: c|d"], "plain");
    check("a,b\r\nc,d\r\n", &["1: a|b", "2: c|d"], "with CRLF");
    check("a,b\rc,d", &["1: a|b", "2: c|d"], "with the line ends of old Macs");
    check("a,b\n\n\r\nc,d", &["1: a|b", "4: c|d"], "blank lines are counted, but are no records");
    check("a,\n,b\n", &["1: a|", "2: |b"], "empty cells, also the last");
    check("\"a,\"\"b\"\"\",c\n", &["1: a,\"b\"|c"], "a comma and quotes in quotes");
    check("\"a\r\nb\",c\r\nd,e", &["1: a\r\nb|c", "3: d|e"], "a line end in quotes is kept and counted");
    check("\"\",x", &["1: |x"], "an empty quoted cell");
    check("\"a\"b,c\nd,e", &["1! 1", "2: d|e"], "text after a closing quote");
    check("a,b\"c\nd,e", &["1! 1", "2: d|e"], "a quote in a bare cell");
    check("a,\"b\nc,d\ne,f\n", &["1! 1", "2: c|d", "3: e|f"], "a quote never closed costs its own line only");
    check("a,\"b\nc,\"d\"\ne,f\n", &["1! 2", "2: c|d", "3: e|f"], "closed by the next row's opening quote");
}

#[test]
fn a_cells_line_is_where_it_begins() {
    let record = Records::new(b"\n\"a\nb\",\"c\n\nd\",e").next().unwrap();
    assert_eq!(record.cells.iter().map(|c| c.line).collect::<Vec<_>>(), [2, 3, 5]);
}

#[test]
fn bounds() {
    let long = format!("{},x\ny,z\n", "a".repeat(super::MAX_CELL + 1));
    assert_eq!(read(&long), ["1! 1", "2: y|z"], "a bare cell");
    let quoted = format!("\"{}\n\",x\ny,z\n", "a\n".repeat(super::MAX_CELL));
    assert_eq!(read(&quoted)[0], "1! 1", "a quoted cell");
    let wide = format!("{}\ny,z\n", ",".repeat(100_000));
    assert_eq!(read(&wide), ["1! 1", "2: y|z"], "cells without end");
}

proptest! {
    /// What the `csv` crate writes is read back, with the lines in which it stands.
    #[test]
    fn reads_what_the_csv_crate_writes(
        rows in prop::collection::vec(prop::collection::vec("[a,\"\r\n あ]{0,6}", 2..5), 0..6),
        crlf in any::<bool>(),
    ) {
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().flexible(true).terminator(terminator).from_writer(Vec::new());
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let mut line = 1;
        let mut records = Records::new(&bytes);
        for row in &rows {
            let record = records.next().unwrap();
            prop_assert!(record.fault.is_none());
            prop_assert_eq!(record.line, line);
            let cells: Vec<_> = record.cells.iter().map(|c| String::from_utf8(c.bytes.to_vec()).unwrap()).collect();
            prop_assert_eq!(&cells, row);
            let breaks = |cell: &String| cell.replace("\r\n", "\n").chars().filter(|c| matches!(c, '\r' | '\n')).count();
            line += 1 + row.iter().map(breaks).sum::<usize>() as u64;
        }
        prop_assert!(records.next().is_none());
    }

    /// No input makes it panic or run on; every line that holds something belongs to some record.
    #[test]
    fn takes_any_bytes(bytes in prop::collection::vec(prop::sample::select(b"a,\"\r\n".to_vec()), 0..200)) {
        prop_assert_eq!(reading(&bytes), Records::new(&bytes).map(|record| shown(&record)).collect::<Vec<_>>());
        let mut last = 0;
        for record in Records::new(&bytes) {
            prop_assert!(record.line > last);
            last = record.line;
        }
    }
}
