//! Customers in TOML.

use kigen::fleet::load;

use crate::{CONTROL, cp932, errors, file, names, refused, toml};

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
