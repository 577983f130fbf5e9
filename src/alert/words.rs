//! The words of an alert's details, in the operators' language. One line each; data in, text out.
//!
//! What a server, a file's error or a person said stays as it is. The store's words stand beside the Japanese ones wherever
//! they are what one types or searches for.

use super::Language;
use super::Language::{En, Ja};
use crate::domain::campaign::Standing;
use crate::domain::delivery::Held;
use crate::domain::observation::Reason;
use crate::domain::plan::NoticeKind;

/// A reason, with its word.
#[must_use]
pub fn reason(language: Language, reason: Reason) -> String {
    if language == En {
        return reason.as_str().to_owned();
    }
    let text = match reason {
        Reason::InventoryError => "顧客ファイルの誤り",
        Reason::LogonRefused => "ログオン拒否",
        Reason::AccountLocked => "アカウントのロック",
        Reason::PasswordChangeRequired => "パスワード変更の要求",
        Reason::Maintenance => "メンテナンス中",
        Reason::Timeout => "応答なし",
        Reason::Dns => "名前解決の失敗",
        Reason::Connect => "接続の失敗",
        Reason::Tls => "TLS の失敗",
        Reason::HttpStatus => "HTTP エラー",
        Reason::LayoutChanged => "画面の変更",
        Reason::UnknownValue => "未知の設定値",
        Reason::SessionLost => "セッション切れ",
        Reason::TooLarge => "ページが大きすぎる",
        Reason::SiteMissing => "サイトが見つからない",
        Reason::Skipped => "中止により未確認",
    };
    format!("{text} ({})", reason.as_str())
}

/// A kind of notice.
#[must_use]
pub fn kind(language: Language, kind: NoticeKind) -> &'static str {
    match (language, kind) {
        (En, kind) => kind.as_str(),
        (Ja, NoticeKind::First) => "初回のお知らせ",
        (Ja, NoticeKind::Reminder) => "リマインド",
        (Ja, NoticeKind::Overdue) => "期限超過のお知らせ",
        (Ja, NoticeKind::Consent) => "同意のお願い",
        (Ja, NoticeKind::Resolved) => "完了のお知らせ",
        (Ja, NoticeKind::Regressed) => "再発のお知らせ",
        (Ja, NoticeKind::Rescheduled) => "期限変更のお知らせ",
    }
}

/// Where a site stands.
#[must_use]
pub fn standing(language: Language, standing: Standing) -> &'static str {
    match (language, standing) {
        (En, standing) => standing.as_str(),
        (Ja, Standing::Affected) => "影響あり",
        (Ja, Standing::ConsentMissing) => "管理者の同意待ち",
        (Ja, Standing::Clear) => "対応不要",
    }
}

/// Why a notice is kept back.
#[must_use]
pub fn held(language: Language, held: Held) -> &'static str {
    match (language, held) {
        (En, held) => held.as_str(),
        (Ja, Held::Review) => "承認待ち (review)",
        (Ja, Held::Cap) => "初回通知の上限 (safety.max_new_notices)",
        (Ja, Held::Hold) => "全体の保留",
        (Ja, Held::Unknown) => "届いたか不明",
    }
}

/// Why all mail is held: of a person's pause the person's words, else what the rule means. `kind`: the hold's word.
#[must_use]
pub fn hold(language: Language, kind: &str, reason: &str) -> String {
    match (language, kind) {
        (Ja, "newly_affected") => {
            format!("1 回のスキャンで新たに影響ありとなったお客様が多すぎます (読み取りの誤りかもしれません): {reason}")
        }
        (Ja, "restored") => format!("状態 (データベース) が復元または複製されたようです: {reason}"),
        _ => reason.to_owned(),
    }
}

/// A site that could not be read for so many scans in a row; `site` is empty where none could be listed.
#[must_use]
pub fn unreadable(language: Language, site: &str, why: Reason, scans: u32) -> String {
    let site = if site.is_empty() { String::new() } else { format!("{site}: ") };
    let why = reason(language, why);
    match language {
        Ja => format!("{site}{why}、{scans} 回連続"),
        En => format!("{site}{why} ({scans} scans)"),
    }
}

/// The scan's failure rate.
#[must_use]
pub fn failure_rate(language: Language, unreadable: u64, sites: u64) -> String {
    let percent = unreadable * 100 / sites.max(1);
    match language {
        Ja => format!("{sites} サイト中 {unreadable} サイト ({percent} %)"),
        En => format!("{unreadable} of {sites} sites ({percent} %)"),
    }
}

/// Refused logons in a row stopped the scan.
#[must_use]
pub fn logons_refused(language: Language, limit: u32, english: &str) -> String {
    match language {
        Ja => format!(
            "{limit} 件続けてログオンが拒否されたため (safety.logon_failures)、アカウントがロックされないようスキャンを中止しました"
        ),
        En => english.to_owned(),
    }
}

/// Customers with an open case are gone from the customers file.
#[must_use]
pub fn customers_gone(language: Language, gone: u64, open: u64) -> String {
    match language {
        Ja => format!("対応中の案件 {open} 件のうち {gone} 件のお客様が顧客ファイルにありません"),
        En => format!("{gone} of {open} open cases are of customers who are not in the customers file any more"),
    }
}

/// What the store says of how a scan ended, beside the outcome's word.
#[must_use]
pub fn scan_detail(language: Language, outcome: Option<&str>, limit: u32, detail: &str) -> String {
    match (language, outcome) {
        // A scan that is done and yet says something was stopped by the guard.
        (Ja, Some("done")) => logons_refused(Ja, limit, detail),
        (Ja, Some("interrupted")) if detail.contains("scan.max_duration") => {
            "scan.max_duration を超えました".to_owned()
        }
        (Ja, Some("interrupted")) => "終わる前に停止しました".to_owned(),
        _ => detail.to_owned(),
    }
}

/// A case began anew.
#[must_use]
pub fn round(language: Language, round: u32) -> String {
    match language {
        Ja => format!("{round} 巡目"),
        En => format!("round {round}"),
    }
}

/// A notice in the outbox.
#[must_use]
pub fn delivery(language: Language, kind: NoticeKind, id: impl std::fmt::Display) -> String {
    let kind = self::kind(language, kind);
    match language {
        Ja => format!("{kind} (送信箱の番号 {id})"),
        En => format!("{kind}, delivery {id}"),
    }
}

/// A mail whose row in the state contradicts itself.
#[must_use]
pub fn set_aside(language: Language, id: impl std::fmt::Display, why: &str) -> String {
    match language {
        Ja => format!("送信箱の番号 {id} は状態の記録が矛盾しているため送信を取りやめました ({why})"),
        En => format!("delivery {id} was set aside: {why}"),
    }
}

/// A customer is untold, and its deadline is near.
#[must_use]
pub fn deadline(language: Language, deadline: chrono::NaiveDate, left: i64, why: &str) -> String {
    match language {
        Ja => format!("期限 {deadline} (あと {left} 日): {why}"),
        En => format!("{deadline} ({left} d): {why}"),
    }
}

/// A dead contact; `then`: who is told instead, `said`: what its server answered.
#[must_use]
pub fn dead_contact(language: Language, masked: &str, then: &str, said: &str) -> String {
    match language {
        Ja => format!("{masked}: {then} (相手サーバー: {said})"),
        En => format!("{masked}: {then} ({said})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_in_japanese() {
        let rows = [
            (unreadable(Ja, "本社", Reason::Timeout, 2), "本社: 応答なし (timeout)、2 回連続"),
            (unreadable(Ja, "", Reason::Dns, 3), "名前解決の失敗 (dns)、3 回連続"),
            (failure_rate(Ja, 3, 10), "10 サイト中 3 サイト (30 %)"),
            (hold(Ja, "paused", "電話が鳴りやまない"), "電話が鳴りやまない"),
            (delivery(Ja, NoticeKind::First, 7), "初回のお知らせ (送信箱の番号 7)"),
        ];
        for (text, expected) in rows {
            assert_eq!(text, expected);
        }
    }
}
