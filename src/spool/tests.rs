//! What goes in comes out, sorted, however much it is.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::{Filling, MEMORY, Sorter, Table};

/// Numbers that look random, the same each time.
fn shuffled(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| (n * 7_919 + 13) % count)
}

fn table(mut sorter: Sorter, records: &[(Vec<u8>, Vec<u8>)], dir: &Path) -> io::Result<Table> {
    for (key, value) in records {
        sorter.push(key, value)?;
    }
    let mut sorted = sorter.sorted()?;
    let mut filling = Filling::new(dir);
    while let Some((key, value)) = sorted.next()? {
        filling.push(&key, &value)?;
    }
    filling.done()
}

#[test]
fn what_was_put_in_comes_out_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let large = 3 * MEMORY as u64 / 50;
    for (count, of_a_key, why) in [
        (0, 1, "nothing"),
        (1, 1, "one record"),
        (64, 1, "one block"),
        (65, 1, "one more than a block"),
        (1_000, 7, "several of a key stay as they came, across blocks"),
        (1_000, 200, "more of a key than a block holds"),
        (large, 1, "several runs, in a file"),
        (large, 3, "several of a key in several runs"),
    ] {
        let record = |n: u64| (format!("K{:07}", n / of_a_key).into_bytes(), format!("value {n:07}{}", "あ".repeat(8)));
        let records: Vec<_> = shuffled(count).map(record).map(|(k, v)| (k, v.into_bytes())).collect();
        let mut expected: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
        records.iter().for_each(|(key, value)| expected.entry(key).or_default().push(value));
        let table = table(Sorter::new(dir.path()), &records, dir.path()).unwrap();
        assert_eq!(table.len() as u64, count, "{why}");
        assert_eq!(table.spool.file.is_some(), count == large, "{why}: a file only for what is large");
        let all: Vec<(Vec<u8>, Vec<u8>)> = table.each(|key, value| (key.to_vec(), value.to_vec())).collect();
        let sorted =
            expected.iter().flat_map(|(key, values)| values.iter().map(move |value| (key.to_vec(), value.to_vec())));
        assert!(all.iter().cloned().eq(sorted), "{why}");
        for (place, (key, value)) in all.iter().enumerate().step_by(1 + all.len() / 500) {
            assert!(table.at(place, |k, v| k == key && v == value), "{why}");
            let its = &expected[key.as_slice()];
            assert_eq!(table.get(key, <[u8]>::to_vec).as_deref(), Some(its[0]), "{why}");
            let first = table.place(key).unwrap();
            assert!(first <= place && place < first + its.len(), "{why}");
            let mut found = Vec::new();
            table.of(key, |value| {
                found.push(value.to_vec());
                ControlFlow::Continue(())
            });
            assert_eq!(found, *its, "{why}");
        }
        // Where the last search ended must not mislead the next one, whatever is asked for in whatever order.
        let mut places = BTreeMap::new();
        all.iter().enumerate().for_each(|(place, (key, _))| {
            places.entry(key.as_slice()).or_insert(place);
        });
        let keys: Vec<&[u8]> = places.keys().copied().collect();
        let any = shuffled(keys.len() as u64).map(|n| keys[n as usize]);
        for key in keys.iter().copied().take(3_000).chain(keys.iter().copied().rev().take(3_000)).chain(any.take(500)) {
            assert_eq!(table.place(key), Some(places[key]), "{why}");
            assert_eq!(table.place(&[key, b"!"].concat()), None, "{why}");
        }
        for nobody in ["", "K", "K0000000x", "Z"] {
            assert_eq!(table.place(nobody.as_bytes()), None, "{why}");
        }
    }
}

#[test]
fn a_record_may_be_larger_than_what_is_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..40_u8).rev().map(|n| (vec![n; 3], vec![n; 200_000])).collect();
    let table = table(Sorter::new(dir.path()), &records, dir.path()).unwrap();
    let all: Vec<_> = table.each(|key, value| (key.to_vec(), value.to_vec())).collect();
    assert!(all.iter().eq(records.iter().rev()));
}

#[test]
fn the_file_has_no_name_and_a_bad_directory_is_told_only_when_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<_> = shuffled(100_000).map(|n| (n.to_be_bytes().to_vec(), vec![b'x'; 40])).collect();
    let kept = table(Sorter::new(dir.path()), &records, dir.path()).unwrap();
    assert!(kept.spool.file.is_some());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind whatever happens");
    let nowhere = dir.path().join("nowhere");
    assert!(table(Sorter::new(&nowhere), &records[..100], &nowhere).is_ok(), "few records need no disk");
    let error = table(Sorter::new(&nowhere), &records, &nowhere).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
}
