//! Dates, times, names and settings as customers read them; the one place where they are formatted.

use chrono::{Datelike, NaiveDate, Weekday};
use chrono_tz::Tz;

use super::wrap::width;
use crate::domain::Timestamp;
use crate::domain::customer::Language;
use crate::domain::site::{AuthMethod, ServerType};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn month(day: NaiveDate) -> &'static str {
    MONTHS[day.month0() as usize]
}

fn weekday(language: Language, day: NaiveDate) -> &'static str {
    let (ja, en) = match day.weekday() {
        Weekday::Mon => ("月", "Mon"),
        Weekday::Tue => ("火", "Tue"),
        Weekday::Wed => ("水", "Wed"),
        Weekday::Thu => ("木", "Thu"),
        Weekday::Fri => ("金", "Fri"),
        Weekday::Sat => ("土", "Sat"),
        Weekday::Sun => ("日", "Sun"),
    };
    match language {
        Language::Ja => ja,
        Language::En => en,
    }
}

/// `2022年10月1日`, `1 October 2022`.
fn plain_date(language: Language, day: NaiveDate) -> String {
    match language {
        Language::Ja => format!("{}年{}月{}日", day.year(), day.month(), day.day()),
        Language::En => format!("{} {} {}", day.day(), month(day), day.year()),
    }
}

/// `2022年10月1日(土)`, `1 October 2022 (Sat)`.
pub(super) fn date(language: Language, day: NaiveDate) -> String {
    let space = if language == Language::En { " " } else { "" };
    format!("{}{space}({})", plain_date(language, day), weekday(language, day))
}

/// `2022年9月1日 06:00`, `1 Sep 2022 06:00 JST`.
pub(super) fn moment(language: Language, at: Timestamp, zone: Tz) -> String {
    let at = at.with_timezone(&zone);
    match language {
        Language::Ja => format!("{} {}", plain_date(language, at.date_naive()), at.format("%H:%M")),
        Language::En => at.format("%-d %b %Y %H:%M %Z").to_string(),
    }
}

/// `2023年1月の第1週`, `the first week of January 2023`: Microsoft names weeks, not days, for the end of a postponement.
pub(super) fn week(language: Language, day: NaiveDate) -> String {
    let week = day.day0() / 7;
    match language {
        Language::Ja => format!("{}年{}月の第{}週", day.year(), day.month(), week + 1),
        Language::En => {
            let nth = ["first", "second", "third", "fourth", "fifth"][week as usize];
            format!("the {nth} week of {} {}", month(day), day.year())
        }
    }
}

/// A name or a setting as outside data is shown: no control characters, nothing invisible, and nothing that turns the
/// direction of what follows (U+202E and its like make `gpj.exe` of `exe.jpg`).
pub(super) fn shown(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
    };
    let shown: String = text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|&c| !hidden(c)).collect();
    shown.trim().to_owned()
}

/// At most so many half-width columns, with `…` where something was cut.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if width(&short) + 2 > columns {
            short.pop();
            break;
        }
    }
    format!("{}…", short.trim_end())
}

/// The screen's text for the setting [Exchange サーバーの種類].
pub(super) fn server_type(value: ServerType) -> &'static str {
    match value {
        ServerType::ExchangeOnline => "Exchange Online に接続する",
        ServerType::OnPremises => "Exchange サーバーに接続する",
    }
}

/// The screen's text for the setting [Exchange サーバーの認証方式].
pub(super) fn auth_method(value: AuthMethod) -> &'static str {
    match value {
        AuthMethod::Basic => "基本認証 (Office 365の場合)",
        AuthMethod::OAuth => "OAuth認証 (Office 365の場合)",
        AuthMethod::OnPremisesBasic => "基本認証 (オンプレミスの場合)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn day(y: i32, m: u32, d: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(y, m, d).unwrap()
    }

    #[test]
    fn dates_read_as_their_readers_write_them() {
        assert_eq!(date(Language::Ja, day(2022, 10, 1)), "2022年10月1日(土)");
        assert_eq!(date(Language::En, day(2022, 10, 1)), "1 October 2022 (Sat)");
        let at = chrono::Utc.with_ymd_and_hms(2022, 8, 31, 21, 0, 3).unwrap();
        assert_eq!(moment(Language::Ja, at, chrono_tz::Asia::Tokyo), "2022年9月1日 06:00");
        assert_eq!(moment(Language::En, at, chrono_tz::Asia::Tokyo), "1 Sep 2022 06:00 JST");
        assert_eq!(week(Language::Ja, day(2023, 1, 1)), "2023年1月の第1週");
        assert_eq!(week(Language::En, day(2026, 10, 31)), "the fifth week of October 2026");
    }

    #[test]
    fn names_cannot_turn_or_hide_what_stands_beside_them() {
        let rows = [
            ("a right-to-left override is dropped", "本社\u{202E}gpj.exe", "本社gpj.exe"),
            ("isolates, marks and invisible characters too", "\u{2067}a\u{200F}\u{200B}b\u{FEFF}", "ab"),
            ("line breaks too", "a\r\nBcc: b\u{85}\u{2028}", "aBcc: b"),
            ("a joined emoji stays one", "👩\u{200D}💻", "👩\u{200D}💻"),
        ];
        for (sentence, text, expected) in rows {
            assert_eq!(shown(text), expected, "{sentence}");
        }
    }

    #[test]
    fn long_names_are_cut_by_their_width() {
        assert_eq!(cut("本社", 4), "本社");
        assert_eq!(cut("東京本社サイト", 8), "東京本…");
        assert_eq!(cut("abcdefgh", 6), "abcd…");
    }
}
