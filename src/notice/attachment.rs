//! The full list of sites as a CSV file, for a notice whose own list was cut.
//!
//! Made for a double click in Excel: UTF-8 with a byte order mark, CRLF. A cell that Excel would take for a formula gets a
//! leading apostrophe, for names are outside data.

use super::Attachment;
use super::view::SiteLine;
use crate::domain::case::Reference;
use crate::domain::customer::Language;

/// Every site with what was read of it and when.
pub(super) fn site_list(sites: &[SiteLine], reference: &Reference, language: Language) -> Attachment {
    let header = match language {
        Language::Ja => ["サイト名", "サーバーの種類", "認証方式", "確認日時"],
        Language::En => ["Site", "Server type", "Authentication method", "Checked at"],
    };
    let mut content = String::from("\u{FEFF}");
    push_row(&mut content, header.into_iter());
    for site in sites {
        push_row(&mut content, [&*site.name, &*site.server_type, &*site.auth_method, &*site.read_at].into_iter());
    }
    Attachment {
        name: format!("sites-{}.csv", reference.0.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "")),
        content_type: "text/csv; charset=utf-8".to_owned(),
        content: content.into_bytes(),
    }
}

fn push_row<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(',');
        }
        let formula = cell.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
        let guard = if formula { "'" } else { "" };
        if cell.contains([',', '"', '\r', '\n']) || cell != cell.trim() {
            out.push('"');
            out.push_str(guard);
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(guard);
            out.push_str(cell);
        }
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::push_row;

    #[test]
    fn cells_are_neither_formulas_nor_broken() {
        let rows = [
            ("a plain cell", "本社", "本社"),
            ("a formula", "=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("a formula behind a space", " +1", "\"' +1\""),
            ("a mention", "@SUM(A1)", "'@SUM(A1)"),
            ("a minus", "-1", "'-1"),
            ("a comma and a quote", "a,\"b\"", "\"a,\"\"b\"\"\""),
        ];
        for (sentence, cell, expected) in rows {
            let mut out = String::new();
            push_row(&mut out, std::iter::once(cell));
            assert_eq!(out, format!("{expected}\r\n"), "{sentence}");
        }
    }
}
