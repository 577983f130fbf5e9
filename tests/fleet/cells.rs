//! What a cell may hold, and the words for what it may not.

use kigen::domain::customer::{Address, Language};
use kigen::fleet::{Password, load};
use kigen::secret::SecretSource;

use crate::{CONTROL, HEADER, NO_DOMAIN, NOT_YES_NO, chmod, csv, errors, file, names};

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
