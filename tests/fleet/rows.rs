//! Rows that are quarantined, alone and with their lines.

use kigen::fleet::{Member, import, load};
use proptest::prelude::*;

use crate::{CONTROL, csv, errors, file, names};

#[test]
fn all_errors_of_a_row_are_listed_and_the_others_go_on() {
    let fleet = csv("customer_id,name,email,language,note\n\
                     C1,本社,a@example.jp,,\n\
                     ,\"\",a,fr,\"two\nlines\"\n\
                     \n\
                     C3,\"三\",c@example.jp,xx,\n\
                     C4,四,d@example.jp,,\n");
    assert_eq!(names(&fleet), ["本社", "四"]);
    assert_eq!(
        errors(&fleet),
        [
            "line 3, customer_id: is empty; every customer needs one",
            "line 3, name: is empty; every customer needs one",
            "line 3, email: a*** has no name before or no domain after an @",
            "line 3, language: is neither `ja` nor `en`",
            "line 6, language: is neither `ja` nor `en`",
        ],
        "the line after a quoted line break and a blank line is right"
    );
    assert_eq!(fleet.quarantined[0].id, None);
    assert_eq!(fleet.quarantined[1].id.as_ref().unwrap().as_str(), "C3");
    assert_eq!(fleet.quarantined[1].name.as_deref(), Some("三"));
}

#[test]
fn lines_are_right_with_crlf_and_quoted_line_breaks() {
    let fleet = csv("note,customer_id,name,email,language\r\n\
                     \"a\r\nb\r\nc\",C1,\"x\r\ny\",a@example.jp,fr\r\n\
                     ,C2,z,b,\r\n");
    assert_eq!(
        errors(&fleet),
        [
            &format!("line 4, name: {CONTROL}"),
            "line 5, language: is neither `ja` nor `en`",
            "line 6, email: b*** has no name before or no domain after an @",
        ],
        "each cell has the line it begins on"
    );
}

#[test]
fn two_customers_with_one_id_are_both_quarantined() {
    let fleet = csv("customer_id,name,email\n\
                     C1,一,a@example.jp\n\
                     C2,二,b@example.jp\n \
                     C1 ,三,c@example.jp\n\
                     C1,四,bad\n\
                     C5,五,e@example.jp\n\
                     C5,五,e@example.jp\n");
    assert_eq!(names(&fleet), ["二"]);
    let remedy = "too; give each customer an id of its own, or remove what is double";
    assert_eq!(
        errors(&fleet),
        [
            format!("line 2, customer_id: stands on lines 4, 5 {remedy}"),
            format!("line 4, customer_id: stands on lines 2, 5 {remedy}"),
            format!("line 5, customer_id: stands on lines 2, 4 {remedy}"),
            "line 5, email: b*** has no name before or no domain after an @".to_owned(),
            format!("line 6, customer_id: stands on line 7 {remedy}"),
            format!("line 7, customer_id: stands on line 6 {remedy}"),
        ]
    );
    assert!(fleet.quarantined.iter().all(|q| q.id.is_some()));
}

#[test]
fn rows_of_the_wrong_shape_cost_themselves_only() {
    let fleet = csv("customer_id,name,email\n\
                     C1,a,a@example.jp\n\
                     C2,b\n\
                     C3,Foo, Inc.,c@example.jp\n\
                     C4,\"d\"x,d@example.jp\n\
                     C5,\"e,e@example.jp\n\
                     C6,f,f@example.jp\n\
                     ,,\n");
    assert_eq!(names(&fleet), ["a", "f"]);
    let comma = "the header has 3; a cell with a comma in it must stand in quotes";
    assert_eq!(
        errors(&fleet),
        [
            &format!("line 3: the row has 2 cells, {comma}"),
            &format!("line 4: the row has 4 cells, {comma}"),
            "line 5: a quoted cell goes on after its closing quote; a quote inside it is written \"\"",
            "line 6: a quote is opened here and never closed",
        ]
    );
    let ids: Vec<_> = fleet.quarantined.iter().map(|q| q.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["C2", "C3", "C4", "C5"], "the first column can be trusted");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// One stray character anywhere below the header costs at most the row it stands in, and no name meets another's address.
    #[test]
    fn a_stray_character_costs_one_row(at in 0_usize..120, stray in prop::sample::select(vec![b'"', b',', b'\n', b'\r', 0xFF, 0x83])) {
        let header = "customer_id,name,email,note\n";
        let rows: String = (1..=5).map(|n| format!("C{n},会社{n},c{n}@example.jp,\"a, b\"\n")).collect();
        let before = csv(format!("{header}{rows}"));
        prop_assert_eq!(before.members.len(), 5);
        let mut bytes = format!("{header}{rows}").into_bytes();
        let at = header.len() + at.min(rows.len());
        bytes.insert(at, stray);
        let after = csv(&bytes);
        prop_assert!(after.members.len() >= 4, "{:?}", errors(&after));
        prop_assert!(after.members.len() == 5 || !after.quarantined.is_empty());
        for member in &after.members {
            let same = |m: &Member| m.customer.name == member.customer.name && m.customer.email == member.customer.email;
            prop_assert!(before.members.iter().any(same), "{member:?}");
        }
    }

    /// Nothing that is written into the file makes it panic.
    #[test]
    fn any_bytes(rows in prop::collection::vec(any::<u8>(), 0..200), text in "[a-z\\[\\]=\"\n, あ;]{0,200}") {
        let mut bytes = b"customer_id,name,email\n".to_vec();
        bytes.extend_from_slice(&rows);
        let _ = load(&file("customers.csv", &bytes).path);
        let _ = load(&file("customers.csv", &rows).path);
        let _ = load(&file("customers.toml", text.as_bytes()).path);
        let _ = import(&bytes);
        let _ = import(text.as_bytes());
    }
}
