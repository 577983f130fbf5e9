//! Wraps the text part: lines of at most so many half-width columns, with the Japanese rules of line breaking (kinsoku).
//!
//! It knows nothing of notices. Invariant: no line is wider than asked for, but one that is a link and nothing else; no
//! text is lost but white space around a break.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The width of a notice's text part, in half-width columns.
pub const COLUMNS: usize = 72;

/// What is quoted stays whole up to this width: a button's label cut in two cannot be found on the screen.
const QUOTED_COLUMNS: usize = 44;

/// Endings that look torn when a line begins with their second half.
const ENDINGS: [(char, char); 6] = [('で', 'す'), ('ま', 'す'), ('ま', 'せ'), ('せ', 'ん'), ('さ', 'い'), ('し', 'た')];

/// What counts things: stays with the number before it.
const COUNTERS: &str = "年月日時分回件番";

/// What no line may begin with.
fn no_start(c: char) -> bool {
    matches!(
        c,
        '、' | '。'
            | '，'
            | '．'
            | '・'
            | '：'
            | '；'
            | '？'
            | '！'
            | '」'
            | '』'
            | '）'
            | '】'
            | '〕'
            | '］'
            | '｝'
            | '〉'
            | '》'
            | '”'
            | '’'
            | 'ー'
            | '々'
            | '〜'
            | '～'
            | '…'
            | '‥'
            | 'ぁ'
            | 'ぃ'
            | 'ぅ'
            | 'ぇ'
            | 'ぉ'
            | 'っ'
            | 'ゃ'
            | 'ゅ'
            | 'ょ'
            | 'ゎ'
            | 'ァ'
            | 'ィ'
            | 'ゥ'
            | 'ェ'
            | 'ォ'
            | 'ッ'
            | 'ャ'
            | 'ュ'
            | 'ョ'
            | 'ヮ'
            | 'ヵ'
            | 'ヶ'
            | '％'
            | '%'
            | ','
            | '.'
            | ':'
            | ';'
            | '?'
            | '!'
            | ')'
            | ']'
            | '}'
    )
}

/// What no line may end with.
fn no_end(c: char) -> bool {
    matches!(c, '「' | '『' | '（' | '【' | '〔' | '［' | '｛' | '〈' | '《' | '“' | '‘' | '(' | '[' | '{')
}

/// The width in half-width columns; what is ambiguous in Unicode counts as wide, as Japanese fonts show it.
#[must_use]
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width_cjk(text)
}

/// Wraps every line, indents what follows a list's marker, drops white space at the ends of lines and of the text, and
/// leaves one empty line where there were several.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut blank = false;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            blank = true;
            continue;
        }
        if blank && !out.is_empty() {
            out.push('\n');
        }
        blank = false;
        if is_link(line) || width(line) <= columns {
            out.push_str(line);
            out.push('\n');
        } else {
            wrap_line(line, columns, &mut out);
        }
    }
    out
}

/// A link alone on its line is never broken: a broken one cannot be followed.
fn is_link(line: &str) -> bool {
    let line = line.trim_start();
    (line.starts_with("https://") || line.starts_with("http://")) && !line.contains(char::is_whitespace)
}

fn wrap_line(text: &str, columns: usize, out: &mut String) {
    let indent = " ".repeat(hanging(text).min(columns / 2));
    let mut line = String::new();
    let mut used = 0; // columns of the line so far, its trailing white space too
    for atom in atoms(text) {
        let wide = width(atom.trim_end());
        if used + wide > columns && !line.trim().is_empty() {
            finish(&mut line, &indent, out);
            used = indent.len();
        }
        if used + wide > columns {
            break_hard(atom, columns, &indent, &mut line, out);
            used = width(&line);
        } else {
            line.push_str(atom);
            used += wide + (atom.len() - atom.trim_end().len());
        }
    }
    if !line.trim().is_empty() {
        finish(&mut line, "", out);
    }
}

fn fits(line: &str, c: char, columns: usize) -> bool {
    let mut whole = String::with_capacity(line.len() + c.len_utf8());
    whole.push_str(line);
    whole.push(c);
    width(&whole) <= columns
}

fn finish(line: &mut String, indent: &str, out: &mut String) {
    out.push_str(line.trim_end());
    out.push('\n');
    line.clear();
    line.push_str(indent);
}

/// An atom wider than a line: a very long word, or a row of characters that must not begin a line.
fn break_hard(atom: &str, columns: usize, indent: &str, line: &mut String, out: &mut String) {
    for c in atom.chars() {
        let joins = c.width_cjk().unwrap_or(0) == 0;
        if !joins && !fits(line, c, columns) {
            finish(line, indent, out);
        }
        line.push(c);
    }
}

/// The columns before a line's own text: its indent and its list marker (`1. `, `・`, `※`, `- `, `[1] `).
fn hanging(line: &str) -> usize {
    let text = line.trim_start_matches(' ');
    let indent = line.len() - text.len();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let marker = if digits > 0 && text[digits..].starts_with(". ") {
        digits + 2
    } else if text.starts_with("- ") {
        2
    } else {
        match text.chars().next() {
            Some(c @ ('・' | '※' | '•')) => {
                let space = usize::from(text[c.len_utf8()..].starts_with(' '));
                c.width_cjk().unwrap_or(1) + space
            }
            _ => 0,
        }
    };
    indent + marker
}

/// Cuts a line where it may be broken. White space stays at the end of what it follows.
fn atoms(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut before = None;
        let mut whole_to = 0;
        let end = rest
            .char_indices()
            .find(|&(at, c)| {
                let ends = at >= whole_to && before.is_some_and(|b| may_break(b, c));
                before = Some(c);
                whole_to = whole_to.max(at + quoted(&rest[at..]));
                ends
            })
            .map_or(rest.len(), |(at, _)| at);
        let (atom, tail) = rest.split_at(end);
        rest = tail;
        Some(atom)
    })
}

/// The bytes from an opening bracket to its closing one, where that stays whole; else 0.
fn quoted(text: &str) -> usize {
    let close = match text.chars().next() {
        Some('[') => ']',
        Some('「') => '」',
        _ => return 0,
    };
    let end = text.char_indices().take(QUOTED_COLUMNS).find(|&(_, c)| c == close).map(|(at, c)| at + c.len_utf8());
    end.filter(|&end| width(&text[..end]) <= QUOTED_COLUMNS).unwrap_or(0)
}

fn may_break(before: char, after: char) -> bool {
    const ZERO_WIDTH_JOINER: char = '\u{200D}';
    let wide = |c: char| c.width() == Some(2);
    if after == ' ' || no_start(after) || no_end(before) {
        return false;
    }
    if before == ' ' {
        return true;
    }
    let joined =
        before == ZERO_WIDTH_JOINER || after.width().unwrap_or(0) == 0 || ('\u{1F3FB}'..='\u{1F3FF}').contains(&after);
    let date = before.is_ascii_digit() && COUNTERS.contains(after)
        || COUNTERS.contains(before) && after.is_ascii_digit()
        || before == '日' && after == '(';
    let katakana = |c: char| matches!(c, 'ァ'..='ヺ' | 'ー');
    let word = katakana(before) && katakana(after) || ENDINGS.contains(&(before, after));
    !joined && !date && !word && (wide(before) || wide(after))
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, width, wrap};
    use proptest::prelude::*;

    #[test]
    fn lines_break_where_a_japanese_reader_expects() {
        let rows = [
            ("a short line stays", "短い行です。", 72, "短い行です。\n"),
            ("wide characters count two", "ああああああ", 8, "ああああ\nああ\n"),
            ("no line begins with a full stop", "ああああ。いい", 8, "あああ\nあ。いい\n"),
            ("no line ends with an opening bracket", "あああ「いい」", 8, "あああ\n「いい」\n"),
            ("words are not broken", "あああ Exchange", 10, "あああ\nExchange\n"),
            ("a date stays whole", "期限は2022年10月1日(土)です", 20, "期限は\n2022年10月1日(土)\nです\n"),
            ("a label stays whole", "ああ[Exchange 設定]", 18, "ああ\n[Exchange 設定]\n"),
            ("a word in katakana stays whole", "ああログオン", 10, "ああ\nログオン\n"),
            ("steps keep their indent", "  3. ああああああ", 12, "  3. あああ\n     あああ\n"),
            ("dots keep their indent", "・ああああああ", 8, "・あああ\n  あああ\n"),
            (
                "a link is left alone",
                "   https://example.jp/a/very/long/one",
                10,
                "   https://example.jp/a/very/long/one\n",
            ),
            ("a word wider than a line is broken", "abcdefghijkl", 8, "abcdefgh\nijkl\n"),
            ("empty lines shrink to one", "\n\nあ  \n\n\n\nい\n\n", 8, "あ\n\nい\n"),
        ];
        for (sentence, text, columns, expected) in rows {
            assert_eq!(wrap(text, columns), expected, "{sentence}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_text_is_lost(text in "[ -~ぁ-ん、。「」（）ーッ🙂\u{200D}\u{FE0F}👨👩\u{1F3FB}\u{0301}\n ]{0,400}") {
            let wrapped = wrap(&text, COLUMNS);
            for line in wrapped.lines() {
                prop_assert!(width(line) <= COLUMNS || line.trim_start().starts_with("http"), "{line:?}");
            }
            let solid = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(solid(&wrapped), solid(&text));
        }
    }
}
