//! The words on the pages: labels as the vendor's guides name them, in every lettering, and the tool's messages.

use super::variant::Lettering;
use crate::domain::site::{AuthMethod, ServerType};

pub(super) const TAB: &str = "ExLookサイト設定";
pub(super) const SITE: &str = "ExLookサイト名";
pub(super) const GROUP: &str = "Exchange設定";
pub(super) const SERVER_TYPE: &str = "Exchange サーバーの種類";
pub(super) const AUTH_METHOD: &str = "Exchange サーバーの認証方式";
pub(super) const SAVE: &str = "設定内容を保存";
/// What stands there instead after the vendor has renamed the label ([`Fault::LabelMissing`](super::Fault::LabelMissing)).
pub(super) const RENAMED_AUTH_METHOD: &str = "サインインの方法";

pub(super) const UNKNOWN_SERVER_TYPE: &str = "Exchange ハイブリッド構成で接続する";
pub(super) const UNKNOWN_AUTH_METHOD: &str = "証明書認証 (Office 365の場合)";

/// The site that the customers file asks for with [`Fault::SiteMissing`](super::Fault::SiteMissing).
pub(super) const GONE_SITE: &str = "旧本社（閉鎖）";

pub(super) const REFUSED: &str = "アカウントまたはパスワードが正しくありません。";
pub(super) const LOCKED: &str =
    "このアカウントはロックされています。お手数ですが、サポート窓口までお問い合わせください。";
pub(super) const EXPIRED: &str = "パスワードの有効期限が切れています。新しいパスワードに変更してください。";
/// What a log-on page says to everybody: words that also stand in the messages above.
pub(super) const LOGON_NEWS: [&str; 2] = [
    "【お知らせ】次の土曜日 22:00～24:00 に定期メンテナンスを実施します。この間はご利用いただけません。",
    "※パスワードを続けて間違えると、アカウントがロックされます。有効期限が切れる前にパスワードを変更してください。",
];

/// The text of a value of [Exchange サーバーの種類].
#[must_use]
pub fn server_type(value: ServerType) -> &'static str {
    match value {
        ServerType::ExchangeOnline => "Exchange Online に接続する",
        ServerType::OnPremises => "Exchange サーバーに接続する",
    }
}

/// The text of a value of [Exchange サーバーの認証方式].
#[must_use]
pub fn auth_method(value: AuthMethod) -> &'static str {
    match value {
        AuthMethod::Basic => "基本認証 (Office 365の場合)",
        AuthMethod::OAuth => "OAuth認証 (Office 365の場合)",
        AuthMethod::OnPremisesBasic => "基本認証 (オンプレミスの場合)",
    }
}

/// Escapes for element content and for attributes in double or single quotes, as ASP.NET does.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A label as markup, in a lettering.
pub(super) fn lettered(label: &str, lettering: Lettering) -> String {
    match lettering {
        Lettering::FullWidthColon => escape(label) + "：",
        Lettering::Colon => escape(label) + " :",
        _ => unmarked(label, lettering),
    }
}

/// The same without a colon: a tab or a heading has none.
pub(super) fn unmarked(label: &str, lettering: Lettering) -> String {
    let plain = escape(label);
    match lettering {
        Lettering::Plain | Lettering::FullWidthColon | Lettering::Colon => plain,
        Lettering::FullWidth => full_width(label),
        Lettering::Nbsp => plain.replace(' ', "&nbsp;"),
        Lettering::LineBreak if plain.contains(' ') => plain.replace(' ', "<br />\r\n          "),
        Lettering::LineBreak => plain.replace("サイト", "<br />\r\n          サイト"),
        Lettering::NoSpace => plain.replace(' ', ""),
        Lettering::ShortServer => plain.replace("サーバー", "サーバ"),
        Lettering::HalfKana => plain.replace("サーバー", "ｻｰﾊﾞｰ").replace("サイト", "ｻｲﾄ"),
        Lettering::Nested => plain.replace("Exchange", "<b>Exchange</b>").replace("ExLook", "<b>Ex</b>Look"),
    }
}

/// A value's text in a lettering: only its width changes, and not in drop-down lists alone.
pub(super) fn value(text: &str, lettering: Lettering) -> String {
    match lettering {
        Lettering::FullWidth => full_width(text),
        _ => text.to_owned(),
    }
}

fn full_width(text: &str) -> String {
    let wide = |c: char| match c {
        ' ' => '\u{3000}',
        '!'..='~' => char::from_u32(c as u32 + 0xFEE0).unwrap_or(c),
        c => c,
    };
    text.chars().map(wide).collect()
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    /// What EXLOOK's label rule says two labels are compared by, markup taken out by hand.
    fn key(markup: &str) -> String {
        let mut text = markup.replace("&nbsp;", " ");
        for tag in ["<br />", "<b>", "</b>"] {
            text = text.replace(tag, "");
        }
        let normal: String = text.nfkc().filter(|c| !c.is_whitespace()).collect();
        normal.trim_end_matches(':').replace("サーバー", "サーバ")
    }

    #[test]
    fn every_lettering_of_a_label_is_the_same_label() {
        for label in [TAB, SITE, GROUP, SERVER_TYPE, AUTH_METHOD] {
            for lettering in Lettering::ALL {
                assert_eq!(key(&lettered(label, lettering)), key(label), "{label} as {lettering:?}");
            }
        }
    }
}
