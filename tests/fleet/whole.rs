//! Encodings, what makes a whole file unusable, and who may read it.

use std::path::Path;

use kigen::fleet::{FleetError, load};

use crate::{chmod, cp932, csv, errors, file, names, refused};

#[test]
fn encodings() {
    let text = "customer_id,name,email\r\nC1,髙橋①商店,a@example.jp\r\nC2,ソニー表,b@example.jp\r\n";
    for (bytes, called) in [
        (text.as_bytes().to_vec(), "UTF-8"),
        (format!("\u{feff}{text}").into_bytes(), "UTF-8 with a byte order mark"),
        (cp932(text), "CP932"),
        (text.replace("\r\n", "\n").trim_end().into(), "LF, and no line end at the end"),
    ] {
        assert_eq!(names(&csv(bytes)), ["髙橋①商店", "ソニー表"], "{called}");
    }
}

#[test]
fn bad_bytes_cost_their_row_only() {
    let mut bytes = cp932("customer_id,name,email\nC1,髙橋,a@example.jp\nC2,");
    bytes.extend_from_slice(b"\x83\xff,b@example.jp\n");
    let fleet = csv(&bytes);
    assert_eq!(names(&fleet), ["髙橋"]);
    assert_eq!(
        errors(&fleet),
        ["line 3, name: holds bytes that are no CP932 (Shift_JIS); type the cell again and save"]
    );
    let mut bytes = "customer_id,name,email\nC1,髙橋,a@example.jp\nC3,四,c@example.jp\nC2,".as_bytes().to_vec();
    bytes.extend_from_slice(b"\xe3\x81,b@example.jp\n");
    let fleet = csv(&bytes);
    assert_eq!(names(&fleet), ["髙橋", "四"], "one broken line turns no name into rubbish");
    assert_eq!(errors(&fleet), ["line 4, name: holds bytes that are no UTF-8; type the cell again and save"]);
}

#[test]
fn what_makes_the_whole_file_unusable() {
    let check = |bytes: &[u8], expected: &[&str]| assert_eq!(refused("customers.csv", bytes), expected);
    check(b"", &["line 1: the file is empty; its first line must name the columns"]);
    check(b"\r\n\r\n", &["line 1: the file is empty; its first line must name the columns"]);
    check(
        "customer_id,nmae,emial,電話番号,x,".as_bytes(),
        &[
            "line 1, nmae: unknown column `nmae`; did you mean `name`?",
            "line 1, emial: unknown column `emial`; did you mean `email`?",
            "line 1, 電話番号: unknown column `電話番号`; write `phone`; `kigen import` does so for the whole file",
            "line 1, x: unknown column `x`",
            "line 1, : cell 6 of the header is empty; every column needs a name",
            "line 1, name: the required column `name` is missing in the header",
            "line 1, email: the required column `email` is missing in the header",
        ],
    );
    check(b"customer_id,name,email,name\n", &["line 1, name: the column stands in the header twice"]);
    check(
        b"customer_id;name;email\n",
        &["line 1: the header's names are separated by semicolons; save the file with commas (CSV)"],
    );
    check(
        b"customer_id,\"name,email\n",
        &["line 1: the header cannot be read: a quote is opened here and never closed"],
    );
    check(b"customer_id,name\x83,email\n", &["line 1: the header holds bytes that are no CP932 (Shift_JIS)"]);
    let utf16: Vec<u8> = "\u{feff}customer_id\tname\temail".encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(
        &utf16,
        &["line 1: the file is UTF-16 (Excel's \"Unicode Text\"); save it as \"CSV UTF-8 (Comma delimited)\" instead"],
    );
}

#[test]
fn a_header_without_rows_is_an_empty_fleet() {
    let fleet = csv("customer_id,name,email\n\n");
    assert!(fleet.members.is_empty() && fleet.quarantined.is_empty());
}

#[test]
fn files_that_are_none() {
    assert!(matches!(load(Path::new("/nonexistent/customers.csv")), Err(FleetError::Read { .. })));
    assert!(matches!(load(&file("customers.xlsx", b"").path), Err(FleetError::Kind(_))));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("customers.csv")).unwrap();
    assert!(matches!(load(&dir.path().join("customers.csv")), Err(FleetError::NotAFile(_))));
    let huge = file("customers.csv", b"");
    std::fs::File::options().write(true).open(&huge.path).unwrap().set_len(kigen::fleet::MAX_FILE + 1).unwrap();
    assert!(matches!(load(&huge.path), Err(FleetError::TooLarge(_))));
}

#[test]
fn a_file_with_passwords_is_for_its_owner_only() {
    let with = "customer_id,name,email,account,password\nC1,a,a@example.jp,admin,hunter2\n";
    let without = "customer_id,name,email,account,password,credential\nC1,a,a@example.jp,admin,,c1\n";
    let misaligned = "customer_id,name,email,account,password\nC1,a,a@example.jp,admin,x,hunter2\n";
    let table = "[[customer]]\ncustomer_id = \"C1\"\nname = \"a\"\nemail = \"a@example.jp\"\n\
                 account = \"x\"\npassword = \"hunter2\"\n";
    for (name, text, refused) in [
        ("customers.csv", with, true),
        ("customers.csv", misaligned, true),
        ("customers.csv", without, false),
        ("customers.toml", table, true),
    ] {
        let customers = file(name, text.as_bytes());
        assert!(load(&customers.path).is_ok(), "{text}");
        for mode in [0o640, 0o604] {
            chmod(&customers.path, mode);
            assert_eq!(matches!(load(&customers.path), Err(FleetError::Exposed(_))), refused, "{text}");
        }
    }
}
