//! The customers file: what is read, what is quarantined and with which words, what makes the whole file unusable.

#![allow(clippy::unwrap_used, reason = "the helpers here belong to the tests")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kigen::domain::customer::{Address, Language};
use kigen::domain::site::CustomerId;
use kigen::fleet::{Fleet, FleetError, Member, Password, RowError, import, load, roster};
use kigen::secret::SecretSource;
use proptest::prelude::*;

const HEADER: &str = "customer_id,name,email,contact_name,cc,fallback_email,phone,language,account,password,logon_url,\
                      tenant_domain,feature_phone,smartphone,opted_out,done,notify,sites,note";

/// The three errors texts come across most.
const CONTROL: &str = "holds a control character such as a line break; write it on one line";
const NOT_YES_NO: &str = "is neither `yes` nor `no`";
const NO_DOMAIN: &str = "is no domain; write one such as contoso.onmicrosoft.com";

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

/// A file that only its owner can read.
fn file(name: &str, bytes: &[u8]) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    chmod(&path, 0o600);
    File { _dir: dir, path }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn csv(text: impl AsRef<[u8]>) -> Fleet {
    load(&file("customers.csv", text.as_ref()).path).unwrap()
}

fn toml(text: &str) -> Fleet {
    load(&file("customers.toml", text.as_bytes()).path).unwrap()
}

fn cp932(text: &str) -> Vec<u8> {
    let (bytes, _, lossy) = encoding_rs::SHIFT_JIS.encode(text);
    assert!(!lossy);
    bytes.into_owned()
}

fn refused(name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
    match load(&file(name, bytes.as_ref()).path) {
        Err(FleetError::Invalid { errors, .. }) => errors.iter().map(RowError::to_string).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

fn names(fleet: &Fleet) -> Vec<&str> {
    fleet.members.iter().map(|m| m.customer.name.as_str()).collect()
}

fn errors(fleet: &Fleet) -> Vec<String> {
    fleet.quarantined.iter().flat_map(|q| &q.errors).map(RowError::to_string).collect()
}

#[test]
fn every_column_is_read() {
    let row = "C1,株式会社エー,a@example.jp; b@example.jp ;A@EXAMPLE.JP,山田 太郎,c@example.jp;a@example.jp,d@example.jp,\
               03-0000-0000,en,admin@contoso,pässword,https://tool.example/logon.aspx,Contoso.OnMicrosoft.com,yes,no,yes,\
               exchange-online-ews; other ,no,本社;大阪支社,これは備考";
    let fleet = csv(format!("{HEADER}\n{row}\n"));
    assert_eq!(errors(&fleet), Vec::<String>::new());
    let member = &fleet.members[0];
    let customer = &member.customer;
    let texts = |list: &[Address]| list.iter().map(|a| a.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(customer.id.as_str(), "C1");
    assert_eq!(customer.name, "株式会社エー");
    assert_eq!(texts(&customer.email), ["a@example.jp", "b@example.jp"], "each once");
    assert_eq!(texts(&customer.cc), ["c@example.jp"], "who is told anyway gets no copy");
    assert_eq!(texts(&customer.fallback_email), ["d@example.jp"]);
    assert_eq!(customer.contact_name.as_deref(), Some("山田 太郎"));
    assert_eq!(customer.phone.as_deref(), Some("03-0000-0000"));
    assert_eq!(customer.language, Language::En);
    assert_eq!(customer.tenant_domain.as_deref(), Some("contoso.onmicrosoft.com"));
    assert_eq!((customer.feature_phone, customer.smartphone), (Some(true), Some(false)));
    assert!(customer.opted_out && !customer.notify);
    assert_eq!(customer.done.iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["exchange-online-ews", "other"]);
    assert_eq!(customer.sites.iter().map(|s| s.as_str()).collect::<Vec<_>>(), ["本社", "大阪支社"]);
    assert_eq!(member.logon.account, "admin@contoso");
    assert_eq!(member.logon.password().unwrap().unwrap().expose(), "pässword");
    assert_eq!(member.logon.url.as_ref().unwrap().as_str(), "https://tool.example/logon.aspx");
    assert!(!format!("{fleet:?}").contains("pässword"), "a debug line shows no password");
}

#[test]
fn empty_cells_mean_the_defaults() {
    let fleet = csv(format!("{HEADER}\nC1,本社,a@example.jp{}\n", ",".repeat(16)));
    let member = &fleet.members[0];
    assert_eq!(member.customer.language, Language::Ja);
    assert_eq!((member.customer.feature_phone, member.customer.smartphone), (None, None));
    assert!(!member.customer.opted_out && member.customer.notify && member.customer.sites.is_empty());
    assert!(member.logon.password().unwrap().is_none() && member.logon.url.is_none());
    assert_eq!(fleet.by_id().len(), 1);
}

#[test]
fn names_of_every_kind() {
    let check = |cell: &str, expected: Result<&str, &str>, why: &str| {
        let fleet = csv(format!("customer_id,name,email\nC1,{cell},a@example.jp\n"));
        match expected {
            Ok(name) => assert_eq!(names(&fleet), [name], "{why}: {:?}", errors(&fleet)),
            Err(error) => assert_eq!(errors(&fleet), [format!("line 2, name: {error}")], "{why}"),
        }
    };
    check(
        "\"<script>alert(\"\"1\"\")</script>\"",
        Ok("<script>alert(\"1\")</script>"),
        "markup is a text like any other",
    );
    check("👨‍👩‍👧 🏢 合同会社", Ok("👨‍👩‍👧 🏢 合同会社"), "emoji, joined ones too");
    check("\u{3000}全角空白\u{3000}", Ok("全角空白"), "full-width spaces around it are trimmed");
    let long = format!("<script>\"🏢{}", "字".repeat(290));
    assert_eq!(long.chars().count(), 300);
    check(&format!("\"{}\"", long.replace('"', "\"\"")), Ok(&long), "300 characters");
    check(&"字".repeat(301), Err("is longer than 300 characters; shorten it"), "301 characters");
    check("\"株式会社\r\nエー\"", Err(CONTROL), "CRLF in quotes");
    check("株式会社\tエー", Err(CONTROL), "a tab");
    check("株式\u{2028}会社", Err(CONTROL), "Unicode's own line separator");
    check(
        "株式\u{202e}会社",
        Err("holds an invisible character that turns the reading direction; type it again"),
        "turns the text around",
    );
    check(
        "株式\u{fffd}社",
        Err("holds U+FFFD, the mark of a character that was lost when the file was saved; type it again"),
        "damaged before",
    );
    check("\u{3000}", Err("is empty; every customer needs one"), "nothing but space");
}

#[test]
fn every_bad_cell_quarantines_its_row_and_says_why() {
    let check = |column: &str, cell: &str, expected: &str| {
        let fleet = csv(format!("customer_id,name,email,{column}\nC1,本社,a@example.jp,{cell}\n"));
        assert_eq!(errors(&fleet), [format!("line 2, {column}: {expected}")], "{column} = {cell:?}");
        assert_eq!(fleet.quarantined[0].id.as_ref().unwrap().as_str(), "C1");
    };
    let no_place = "which has no place in an address";
    let not_ascii = "which is not ASCII; write it in half-width letters, `kigen import` does so";
    check("cc", "tanaka", "t*** has no name before or no domain after an @");
    check("cc", "ok@example.jp;tanaka@exa_mple.jp", "address 2 (t***@***) has a domain that cannot be one");
    check(
        "cc",
        "\"tanaka@a.jp,suzuki@b.jp\"",
        &format!("t***@b.jp holds ',', {no_place}; several addresses are separated by `;`"),
    );
    check("cc", "田中 <tanaka@a.jp>", &format!("田***@*** holds '田', {not_ascii}"));
    check(
        "cc",
        "Tanaka<tanaka@a.jp>",
        &format!("T***@*** holds '<', {no_place}; write the bare address, without a name"),
    );
    check("fallback_email", "tanaka＠a.jp", &format!("t*** holds '＠', {not_ascii}"));
    check("phone", "\"03\n0000\"", CONTROL);
    check("language", "日本語", "is neither `ja` nor `en`");
    check("feature_phone", "はい", NOT_YES_NO);
    check("smartphone", "1", NOT_YES_NO);
    check("opted_out", "YES", NOT_YES_NO);
    check("notify", "true", NOT_YES_NO);
    check("done", "yes", "holds what is no campaign's id; write ids such as exchange-online-ews");
    check("done", "EWS", "holds what is no campaign's id; write ids such as exchange-online-ews");
    check("sites", "本社;支社;本社", "site 3 stands there twice; remove one");
    check("tenant_domain", "contoso", NO_DOMAIN);
    check("tenant_domain", "https://contoso.com", NO_DOMAIN);
    check("tenant_domain", "192.0.2.1", NO_DOMAIN);
    check("logon_url", "tool.example/logon", "is no URL: relative URL without a base; write https://HOST/…");
    check("logon_url", "ftp://tool.example/", "is neither http:// nor https://");
    check(
        "logon_url",
        "https://admin:pw@tool.example/",
        "holds a user name or password; they belong into `account` and `password`",
    );
    check("account", "admin", "has no password; give one of `password`, `password_file` and `credential`");
}

#[test]
fn passwords_and_their_sources() {
    let header = "customer_id,name,email,account,password,password_file,credential";
    let check = |cells: &str, expected: &str| {
        let fleet = csv(format!("{header}\nC1,本社,a@example.jp,{cells}\n"));
        assert_eq!(errors(&fleet).join("; "), expected, "{cells}");
    };
    let one = "only one of `password`, `password_file` and `credential` can be given";
    check("admin,p,,", "");
    check("admin,,secrets/c1,", "");
    check("admin,,,c1", "");
    check(",,,", "");
    check("admin,p,secrets/c1,", &format!("line 2, password_file: {one}"));
    check("admin,,secrets/c1,c1", &format!("line 2, credential: {one}"));
    check(",p,,", "line 2, account: is empty, but a password is given; give both or neither");
    check("admin,,,../c1", "line 2, credential: is no credential's name: that has no path and no spaces in it");
    check(
        "admin,p ,,",
        "line 2, password: begins or ends with a space; remove it, or put the password into a file (`password_file`) \
         if it belongs to it",
    );
}

#[test]
fn a_password_file_is_relative_to_the_customers_file_and_read_when_needed() {
    let text = b"customer_id,name,email,account,password_file\nC1,a,a@example.jp,admin,c1.secret\n";
    let customers = file("customers.csv", text);
    let fleet = load(&customers.path).unwrap();
    let logon = &fleet.members[0].logon;
    let secret = customers.path.with_file_name("c1.secret");
    assert!(matches!(&logon.password, Some(Password::Source(SecretSource::File(path))) if *path == secret));
    assert!(logon.password().is_err(), "not there yet");
    std::fs::write(&secret, "hunter2\n").unwrap();
    chmod(&secret, 0o600);
    assert_eq!(logon.password().unwrap().unwrap().expose(), "hunter2");
}

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

#[test]
fn toml_tables() {
    let fleet = toml(
        "# the fleet\n[[customer]]\ncustomer_id = \"C1\"\nname = '株式会社「エー」'\n\
         email = [\"a@example.jp\", \"b@example.jp\"]\nnotify = false\nopted_out = \"yes\"\nsites = [\"本社;別館\", \"支社\"]\n\n\
         [[customer]]\ncustomer_id = \"C2\"\nname = \"二\"\nemail = \"a@example.jp; b@example.jp\"\nsites = \"本社;別館\"\n",
    );
    assert_eq!(errors(&fleet), Vec::<String>::new());
    let [one, two] = fleet.members.as_slice() else { panic!("two customers") };
    assert_eq!(one.customer.email, two.customer.email);
    assert!(one.customer.opted_out && !one.customer.notify && two.customer.notify);
    assert_eq!(one.customer.sites[0].as_str(), "本社;別館", "in a list a name may hold a semicolon");
    assert_eq!(two.customer.sites.len(), 2);
}

#[test]
fn toml_rows_are_quarantined_with_their_lines() {
    let fleet = toml(
        "[[customer]]\ncustomer_id = 1\nname = \"a\"\nemial = \"a@example.jp\"\n\n\
         [[customer]]\ncustomer_id = \"C2\"\nname = \"二\"\nemail = \"b@example.jp\"\nnotify = \"maybe\"\ncc = [1]\n\n\
         [[customer]]\ncustomer_id = \"C3\"\nname = \"\"\"三\nさん\"\"\"\nemail = [\"c@example.jp\", \"c\"]\nlanguage = true\n\n\
         [[customer]]\ncustomer_id = \"C4\"\nname = \"四\"\nemail = \"d@example.jp\"\n",
    );
    assert_eq!(names(&fleet), ["四"]);
    assert_eq!(
        errors(&fleet),
        [
            "line 1, email: is empty; every customer needs one",
            "line 2, customer_id: is of type integer; write it as a string, in quotes",
            "line 4, emial: unknown key `emial`; did you mean `email`?",
            "line 10, notify: is neither `yes` nor `no`",
            "line 11, cc: is a list with something else than strings in it",
            &format!("line 15, name: {CONTROL}"),
            "line 17, email: address 2 (c***) has no name before or no domain after an @",
            "line 18, language: is of type boolean; write it as a string, in quotes",
        ]
    );
}

#[test]
fn toml_files_that_are_unusable() {
    let check = |text: &str, expected: &str| assert_eq!(refused("customers.toml", text), [expected], "{text}");
    check("", "line 1: the file holds no [[customer]] table");
    check(
        "\n[customer]\nname = \"a\"\n",
        "line 2: `customer` is not a list of tables; write [[customer]] in two brackets",
    );
    check("[[custmer]]\nname = \"a\"\n", "line 1, custmer: unknown key `custmer`; did you mean [[customer]]?");
    check("name = \"a\"\n", "line 1, name: unknown key `name`; it belongs into a [[customer]] table");
    let broken = "[[customer]]\nname = \"一\"\npassword = \"hunter2\nemail = \"a@example.jp\"\n";
    let errors = refused("customers.toml", broken);
    assert!(errors[0].starts_with("line 3: not TOML, at character "), "{errors:?}");
    assert!(errors.iter().all(|e| !e.contains("hunter2")), "{errors:?}");
}

#[test]
fn toml_in_cp932() {
    let text = "[[customer]]\ncustomer_id = \"C1\"\nname = \"髙橋①ソ\"\nemail = \"a@example.jp\"\n";
    let fleet = load(&file("customers.toml", &cp932(text)).path).unwrap();
    assert_eq!(names(&fleet), ["髙橋①ソ"]);
    let mut bad = cp932(text);
    bad.extend_from_slice(b"# \x83\xff\n");
    assert_eq!(refused("customers.toml", bad), ["line 5: the file holds bytes that are no CP932 (Shift_JIS)"]);
}

#[test]
fn a_fingerprint_changes_with_the_logon_alone() {
    let header = "customer_id,name,email,phone,account,password,credential,logon_url";
    let of = |cells: &str| csv(format!("{header}\nC1,a,a@example.jp,{cells}\n")).members[0].fingerprint.clone();
    let base = of("1,admin,hunter2,,");
    assert_eq!(base.len(), 16);
    assert!(base.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(of("2,admin,hunter2,,"), base, "the telephone number has no part in it");
    for (cells, why) in [
        ("1,admin2,hunter2,,", "another account"),
        ("1,admin,hunter3,,", "another password"),
        ("1,admin,,hunter2,", "a credential of that name"),
        ("1,admin,hunter2,,https://tool.example/", "another URL"),
        (",,,,", "no logon"),
    ] {
        assert_ne!(of(cells), base, "{why}");
    }
}

#[test]
fn import_cleans_what_excel_writes() {
    let excel = cp932(
        "顧客ＩＤ,会社名,メールアドレス,担当者,CC,電話番号,言語,アカウント,パスワード,サイト,スマートフォン,Opted Out,備考,,\r\n\
         Ｃ００１,㈱髙橋商店①,\"ｔａｎａｋａ＠ｅｘａｍｐｌｅ．ｊｐ\n suzuki@example.jp\",田中　太郎,\
         \"a@example.jp、b@example.jp\",０３－００００－００００,日本語,ａｄｍｉｎ,\"Ｐass\"\"word\",本社；支社,○,未,\
         \"改行\r\nあり\",,\r\n",
    );
    let imported = import(&excel);
    assert_eq!(imported.errors, []);
    let clean = imported.csv.unwrap();
    assert_eq!(
        clean,
        "customer_id,name,email,contact_name,cc,fallback_email,phone,language,account,password,password_file,credential,\
         logon_url,tenant_domain,feature_phone,smartphone,opted_out,done,notify,sites,note\n\
         C001,㈱髙橋商店①,tanaka@example.jp;suzuki@example.jp,田中　太郎,a@example.jp;b@example.jp,,03-0000-0000,ja,\
         admin,\"Ｐass\"\"word\",,,,,,yes,no,,,本社;支社,\"改行\r\nあり\"\n",
        "names and passwords stay as they are"
    );
    assert_eq!(names(&csv(&clean)), ["㈱髙橋商店①"], "what import writes, load reads");
    assert_eq!(import(clean.as_bytes()).csv.as_deref(), Some(clean.as_str()), "and import leaves alone");
}

#[test]
fn import_drops_nothing_silently() {
    let check = |text: &str, expected: &[&str]| {
        let imported = import(text.as_bytes());
        let errors: Vec<String> = imported.errors.iter().map(RowError::to_string).collect();
        assert_eq!(errors, expected, "{text}");
        assert_eq!(imported.csv, None);
    };
    check(
        "id,会社名,メール,カナ\nC1,a,a@example.jp,ア\n",
        &["line 1, カナ: unknown column `カナ`; rename it, or remove it from the file"],
    );
    check(
        "id,顧客ID,会社名,メール\nC1,C1,a,a@example.jp\n",
        &["line 1, 顧客ID: two columns of the header mean `customer_id`; remove or rename one"],
    );
    check(
        "id,会社名,メール,\nC1,a,a@example.jp,\nC2,b,b@example.jp,memo\n",
        &["line 3, : cell 4 holds something, but its column has no name"],
    );
    check("id,会社名\nC1,a\n", &["line 1, email: the required column `email` is missing in the header"]);
    check(
        "id,会社名,メール\nC1,a,a@example.jp\nC2,b\n",
        &["line 3: the row has 2 cells, the header has 3; a cell with a comma in it must stand in quotes"],
    );
    let spoilt = "was turned into a number such as 3.1E+09 by Excel; type it again as text";
    check(
        "id,会社名,メール,電話\n1.2E+05,a,a@example.jp,3.1234E+09\n",
        &[&format!("line 2, customer_id: {spoilt}"), &format!("line 2, phone: {spoilt}")],
    );
    check("id,会社名,メール,スマホ\nC1,a,a@example.jp,たぶん\n", &["line 2, smartphone: is neither `yes` nor `no`"]);
    check("", &["line 1: the file is empty; its first line must name the columns"]);
}

#[test]
fn ten_thousand_customers() {
    let mut text = "customer_id,name,email\n".to_owned();
    for n in 0..10_000 {
        text.push_str(&format!("C{n:05},株式会社{n},c{n}@example.jp\n"));
    }
    assert_eq!(csv(&text).by_id().len(), 10_000);
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
