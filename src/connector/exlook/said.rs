//! What a page says to a person in a sentence: refused, locked, change the password, maintenance, an error.
//!
//! By phrases, and carefully: a standing hint ("five failures lock the account") is not a fact about this account.

use std::collections::HashSet;

use super::pages::Page;

/// What a page says to a person, by phrases in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The account is locked.
    Locked,
    /// The password must be changed first.
    ChangePassword,
    /// The tool is down for maintenance.
    Maintenance,
    /// Account or password is wrong.
    Refused,
    /// An error page of the server.
    Error,
    /// Nothing of that kind.
    Nothing,
}

/// What the texts of a page say; those that `before` already had (a standing hint on the log-on page) do not count.
#[must_use]
pub fn said(page: &Page, before: &[String]) -> Said {
    let known: HashSet<&str> = before.iter().map(String::as_str).collect();
    let fresh: Vec<&str> = page.texts.iter().map(String::as_str).filter(|t| !known.contains(t)).collect();
    let text = fresh.concat();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if text.contains("アプリケーションでサーバ") || text.contains("servererrorin") || text.contains("runtimeerror")
    {
        Said::Error
    } else if is_locked(&text) {
        Said::Locked
    } else if (text.contains("パスワード")
        && (has(&CHANGE_JA) || (page.passwords > 0 && has(&CHANGE_FORM) && !has(&REFUSED))))
        || (text.contains("password") && has(&CHANGE_EN))
    {
        Said::ChangePassword
    } else if has(&MAINTENANCE) || (is_maintenance_word(&page.title) && before.is_empty()) {
        Said::Maintenance
    } else if has(&REFUSED) {
        Said::Refused
    } else if before.is_empty() && text.len() < 3000 && is_maintenance_word(&text) {
        Said::Maintenance
    } else {
        Said::Nothing
    }
}

const CHANGE_JA: [&str; 15] = [
    "変更して",
    "変更する必要",
    "変更が必要",
    "変更いただ",
    "変更しなければ",
    "有効期限が切れ",
    "有効期限切れ",
    "有効期限が過ぎ",
    "期限切れ",
    "期限が切れ",
    "期限を過ぎ",
    "期限が過ぎ",
    "失効し",
    "有効期間が",
    "満了",
];
/// Said by a form that changes it, but by menus too.
const CHANGE_FORM: [&str; 4] = ["パスワードの再設定", "新しいパスワード", "パスワードの変更", "パスワード変更"];
const CHANGE_EN: [&str; 5] = ["expired", "mustchange", "mustbechanged", "changeyourpassword", "newpassword"];
const MAINTENANCE: [&str; 9] = [
    "メンテナンス中",
    "メンテナンスのため",
    "メンテナンスを実施",
    "メンテナンス実施",
    "メンテナンスを行",
    "メンテナンス作業",
    "保守作業",
    "undermaintenance",
    "downformaintenance",
];
const REFUSED: [&str; 10] = [
    "正しくありません",
    "違います",
    "間違って",
    "誤りがあります",
    "誤って",
    "失敗しました",
    "ログオンできません",
    "ログインできません",
    "incorrect",
    "invalid",
];

fn is_maintenance_word(text: &str) -> bool {
    text.contains("メンテナンス") || text.contains("maintenance")
}

/// 「ロックされています」 is a fact; 「5回間違えるとロックされます」 is a warning; 「画面ロック」 is something else.
fn is_locked(text: &str) -> bool {
    const WARNINGS: [&str; 6] = ["されます", "される", "します", "する", "がかかります", "されない"];
    const FACTS: [&str; 10] = [
        "されてい",
        "されており",
        "されました",
        "された",
        "中",
        "しました",
        "しています",
        "状態",
        "がかかって",
        "がかかりまし",
    ];
    let mut rest = text;
    while let Some(at) = rest.find("ロック") {
        let (before, after) = (&rest[..at], &rest[at + "ロック".len()..]);
        let (of_account, after) = match after.strip_prefix("アウト") {
            Some(after) => (true, after),
            None => (before.ends_with("アカウント"), after),
        };
        // ブロック is another word.
        let fact = FACTS.iter().any(|fact| after.starts_with(fact)) || of_account;
        if fact && !before.ends_with('ブ') && !WARNINGS.iter().any(|warning| after.starts_with(warning)) {
            return true;
        }
        rest = after;
    }
    let mut rest = text;
    while let Some(at) = rest.find("locked") {
        let before = &rest[..at];
        if !["willbe", "maybe", "getting", "b", "un", "canbe"].iter().any(|word| before.ends_with(word)) {
            return true;
        }
        rest = &rest[at + "locked".len()..];
    }
    false
}
