//! What `kigen import` makes of what Excel writes.

use kigen::fleet::{RowError, import};

use crate::{cp932, csv, names};

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
