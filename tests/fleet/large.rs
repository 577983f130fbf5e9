//! Fleets that lie outside of memory.

use kigen::domain::site::CustomerId;
use kigen::fleet::{FleetError, RowError, roster};

use crate::{csv, file};

#[test]
fn ten_thousand_customers() {
    let mut text = "customer_id,name,email\n".to_owned();
    for n in 0..10_000 {
        text.push_str(&format!("C{n:05},株式会社{n},c{n}@example.jp\n"));
    }
    assert_eq!(csv(&text).by_id().len(), 10_000);
}

/// A fleet that is too large for the memory it may take, its rows in no order. What is in which row follows from its number.
fn large(rows: u64) -> String {
    let mut text = "customer_id,name,email,account,password\n".to_owned();
    for n in (0..rows).map(|n| (n * 7_919 + 13) % rows) {
        text.push_str(&format!("C{n:06},株式会社{n}{},a{n}@example.jp,admin{n},pass{n}\n", "あ".repeat(12)));
    }
    text
}

#[test]
fn a_large_fleet_comes_back_whole_and_in_order() {
    const ROWS: u64 = 30_000;
    let customers = file("customers.csv", large(ROWS).as_bytes());
    let spool = tempfile::tempdir().unwrap();
    let roster = roster(&customers.path, spool.path()).unwrap();
    let members = &roster.members;
    assert_eq!((members.len() as u64, roster.quarantined.len()), (ROWS, 0));
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "a file without a name");
    assert!(members.ids().map(|id| id.to_string()).eq((0..ROWS).map(|n| format!("C{n:06}"))));
    for n in (0..ROWS).step_by(997) {
        let id = CustomerId::new(&format!("C{n:06}")).unwrap();
        let member = members.at(members.number(&id).unwrap());
        assert_eq!(member.customer.name, format!("株式会社{n}{}", "あ".repeat(12)));
        assert_eq!(member.customer.email[0].as_str(), format!("a{n}@example.jp"));
        assert_eq!(member.logon.account, format!("admin{n}"));
        assert_eq!(member.logon.password().unwrap().unwrap().expose(), format!("pass{n}"));
    }
}

#[test]
fn rows_of_a_large_fleet_that_share_an_id_are_told_with_their_lines() {
    const ROWS: u64 = 30_000;
    let mut text = large(ROWS);
    text.push_str("C000013,二重,x@example.jp,,\nC000014,二重,kein,,\n");
    let customers = file("customers.csv", text.as_bytes());
    let spool = tempfile::tempdir().unwrap();
    let roster = roster(&customers.path, spool.path()).unwrap();
    assert_eq!(roster.members.len() as u64, ROWS - 2);
    let line = |n: u64| 2 + (0..ROWS).find(|row| (row * 7_919 + 13) % ROWS == n).unwrap();
    let remedy = "too; give each customer an id of its own, or remove what is double";
    let stands = |own: u64, other: u64| format!("line {own}, customer_id: stands on line {other} {remedy}");
    let errors: Vec<String> = roster.quarantined.iter().flat_map(|q| &q.errors).map(RowError::to_string).collect();
    let (first, second) = (ROWS + 2, ROWS + 3);
    let mut expected = vec![(line(13), stands(line(13), first)), (line(14), stands(line(14), second))];
    expected.sort();
    let mut expected: Vec<String> = expected.into_iter().map(|(_, error)| error).collect();
    expected.push(stands(first, line(13)));
    expected.push(stands(second, line(14)));
    expected.push(format!("line {second}, email: k*** has no name before or no domain after an @"));
    assert_eq!(errors, expected);
}

#[test]
fn where_nothing_can_be_put_aside_a_large_fleet_is_refused_and_a_small_one_is_not() {
    let nowhere = tempfile::tempdir().unwrap().path().join("state");
    let small = file("customers.csv", large(100).as_bytes());
    assert_eq!(roster(&small.path, &nowhere).unwrap().members.len(), 100);
    let customers = file("customers.csv", large(30_000).as_bytes());
    match roster(&customers.path, &nowhere) {
        Err(error @ FleetError::Spool { .. }) => {
            assert_eq!(
                error.to_string(),
                format!("cannot keep the customers in a temporary file in {}", nowhere.display())
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fleet_in_use_stays_as_it_was_read() {
    let customers = file("customers.csv", large(30_000).as_bytes());
    let spool = tempfile::tempdir().unwrap();
    let before = roster(&customers.path, spool.path()).unwrap();
    std::fs::write(&customers.path, "customer_id,name,email\nC000007,新,b@example.jp\n").unwrap();
    let after = roster(&customers.path, spool.path()).unwrap();
    let id = CustomerId::new("C000007").unwrap();
    assert_eq!(after.members.get(&id).unwrap().name, "新");
    drop(after);
    assert!(before.members.get(&id).unwrap().name.starts_with("株式会社7あ"));
    assert_eq!(before.members.values().count(), 30_000);
}
