//! What IMAP answers say, and what names look like in commands. Pure; nothing here recurses.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};

use super::wire::{Answer, LITERAL, Line};

/// What SELECT says of a folder (RFC 3501 section 6.3.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Folder {
    /// The generation of its UIDs: another one, and they mean other mails.
    pub(super) validity: Option<u32>,
    /// The UID the next mail will get, or a greater one.
    pub(super) uid_next: Option<u32>,
    /// The flags that can be set for good, in upper case; `None`: it does not say.
    pub(super) flags: Option<Vec<String>>,
    pub(super) read_only: bool,
}

impl Folder {
    pub(super) fn read(answer: &Answer) -> Self {
        let mut folder = Self { read_only: code(&answer.words, "READ-ONLY").is_some(), ..Self::default() };
        for line in &answer.lines {
            let Some(text) = after_word(&line.text, "OK") else { continue };
            if let Some(number) = code(text, "UIDVALIDITY") {
                folder.validity = number.parse().ok().filter(|n| *n > 0);
            } else if let Some(number) = code(text, "UIDNEXT") {
                folder.uid_next = number.parse().ok().filter(|n| *n > 0);
            } else if let Some(flags) = code(text, "PERMANENTFLAGS") {
                let flags = flags.trim_start_matches('(').trim_end_matches(')');
                folder.flags = Some(flags.split_whitespace().map(str::to_ascii_uppercase).collect());
            }
        }
        folder
    }

    /// Whether a flag can be set for good.
    pub(super) fn keeps(&self, flag: &str) -> bool {
        let flag = flag.to_ascii_uppercase();
        match &self.flags {
            // A server that does not say keeps the five old ones.
            None => flag.starts_with('\\'),
            Some(flags) => flags.contains(&flag) || (!flag.starts_with('\\') && flags.iter().any(|f| f == "\\*")),
        }
    }
}

/// `[UIDNEXT 7] …`, UIDNEXT -> `7`.
fn code<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (code, _) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    if code.eq_ignore_ascii_case(name) { Some("") } else { after_word(code, name).map(str::trim) }
}

/// What stands behind a first word.
pub(super) fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.split_once(' ')?;
    first.eq_ignore_ascii_case(word).then_some(rest)
}

/// The words of `CAPABILITY` lines, in upper case.
pub(super) fn capabilities(answer: &Answer) -> BTreeSet<String> {
    let lines = answer.lines.iter().filter_map(|line| after_word(&line.text, "CAPABILITY"));
    lines.flat_map(str::split_whitespace).map(str::to_ascii_uppercase).collect()
}

/// The UIDs of `SEARCH` lines, in order; `None`: something that is no UID.
pub(super) fn found(answer: &Answer) -> Option<BTreeSet<u32>> {
    let lines =
        answer.lines.iter().filter_map(|line| after_word(&format!("{} ", line.text), "SEARCH").map(str::to_owned));
    let mut uids = BTreeSet::new();
    for line in lines {
        for word in line.split_whitespace() {
            uids.insert(word.parse().ok().filter(|uid| *uid > 0)?);
        }
    }
    Some(uids)
}

/// One item of a FETCH answer's list, at its first level.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Word(String),
    Bytes(Vec<u8>),
}

/// The mail that a `FETCH` line with this UID brings: its bytes, if it has any.
///
/// The outer `None`: the line is about something else. Servers may add flags, and tell of other mails' flags at any time.
pub(super) fn mail(line: Line, uid: u32) -> Option<Option<Vec<u8>>> {
    let (number, rest) = line.text.split_once(' ')?;
    let list = after_word(rest, "FETCH")?.trim_start().strip_prefix('(')?.to_owned();
    number.parse::<u32>().ok()?;
    let items = items(&list, line.literals)?;
    let is = |item: &Item, word: &str| matches!(item, Item::Word(w) if w.eq_ignore_ascii_case(word));
    let place = items.iter().position(|item| is(item, "UID"))?;
    if !items.get(place + 1).is_some_and(|item| is(item, &uid.to_string())) {
        return None;
    }
    let body =
        |item: &Item| matches!(item, Item::Word(w) if w.get(..6).is_some_and(|w| w.eq_ignore_ascii_case("BODY[]")));
    let place = items.iter().position(body)?;
    match items.into_iter().nth(place + 1)? {
        Item::Bytes(bytes) => Some(Some(bytes)),
        Item::Word(_) => Some(None),
    }
}

/// Words, strings and literals up to the parenthesis that ends the list; what stands in inner ones is left out.
fn items(list: &str, literals: Vec<Vec<u8>>) -> Option<Vec<Item>> {
    let (mut items, mut literals) = (Vec::new(), literals.into_iter());
    let (mut depth, mut rest) = (0_usize, list);
    loop {
        let first = rest.chars().next()?;
        let item = match first {
            ' ' => None,
            '(' => {
                depth += 1;
                None
            }
            ')' if depth == 0 => return Some(items),
            ')' => {
                depth -= 1;
                None
            }
            LITERAL => Some(Item::Bytes(literals.next()?)),
            '"' => {
                let (text, behind) = quoted_text(&rest[1..])?;
                rest = behind;
                items.extend((depth == 0).then_some(Item::Bytes(text.into_bytes())));
                continue;
            }
            _ => {
                let end = rest.find([' ', '(', ')', '"', LITERAL])?;
                items.extend((depth == 0).then(|| Item::Word(rest[..end].to_owned())));
                rest = &rest[end..];
                continue;
            }
        };
        items.extend(item.filter(|_| depth == 0));
        rest = &rest[first.len_utf8()..];
    }
}

/// `a\"b" rest` -> `a"b`, ` rest`.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let (mut out, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

/// A string for a command; `None`: it needs more than a quoted string can hold.
pub(super) fn quoted(text: &str) -> Option<String> {
    let fits = text.bytes().all(|b| (b' '..0x7f).contains(&b));
    fits.then(|| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A folder's name in modified UTF-7 (RFC 3501 section 5.1.3): `配信エラー` and `&` cannot be written otherwise.
pub(super) fn folder_name(name: &str) -> String {
    let engine = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);
    let mut out = String::new();
    let mut wide: Vec<u8> = Vec::new();
    for c in name.chars().map(Some).chain([None]) {
        match c {
            Some(c) if !(' '..='~').contains(&c) => {
                wide.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
            }
            other => {
                if !wide.is_empty() {
                    out.push_str(&format!("&{}-", engine.encode(&wide)));
                    wide.clear();
                }
                match other {
                    Some('&') => out.push_str("&-"),
                    Some(c) => out.push(c),
                    None => {}
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::wire::Ended;
    use super::*;

    fn answer(lines: &[&str], words: &str) -> Answer {
        let lines = lines.iter().map(|text| Line { text: (*text).to_owned(), literals: Vec::new() }).collect();
        Answer { ended: Ended::Ok, words: words.to_owned(), lines }
    }

    #[test]
    fn a_folder_says_what_it_is() {
        let dovecot = answer(
            &[
                "FLAGS (\\Answered \\Seen)",
                "OK [PERMANENTFLAGS (\\Answered \\Seen \\*)] Flags permitted.",
                "3 EXISTS",
                "OK [UIDVALIDITY 1669300000] UIDs valid",
                "OK [UIDNEXT 4] Predicted next UID",
            ],
            "[READ-WRITE] Select completed",
        );
        let folder = Folder::read(&dovecot);
        assert_eq!((folder.validity, folder.uid_next, folder.read_only), (Some(1_669_300_000), Some(4), false));
        assert!(folder.keeps("\\Seen") && folder.keeps("$KigenRead") && !folder.keeps("\\Draft"));
        let exchange = answer(&["OK [PERMANENTFLAGS (\\Seen $MDNSent)] x", "ok [uidnext 0] x"], "[READ-ONLY] done");
        let folder = Folder::read(&exchange);
        assert_eq!((folder.validity, folder.uid_next, folder.read_only), (None, None, true), "0 is no UID");
        assert!(folder.keeps("\\seen") && !folder.keeps("$KigenRead"));
        assert!(!Folder::default().keeps("$KigenRead") && Folder::default().keeps("\\Seen"));
    }

    #[test]
    fn a_search_finds_uids_and_nothing_else() {
        let rows: &[(&[&str], Option<&[u32]>)] = &[
            (&["SEARCH 3 1 2"], Some(&[1, 2, 3])),
            (&["SEARCH"], Some(&[])),
            (&["search 1", "5 EXISTS", "SEARCH 1 7"], Some(&[1, 7])),
            (&["SEARCH 0"], None),
            (&["SEARCH 1 x"], None),
            (&["SEARCH 4294967296"], None),
            (&[], Some(&[])),
        ];
        for (lines, expected) in rows {
            let expected = expected.map(|uids| uids.iter().copied().collect());
            assert_eq!(found(&answer(lines, "")), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_mail_is_taken_from_the_line_that_is_about_it() {
        let line = |text: &str| Line { text: text.replace('%', "\0"), literals: vec![b"mail".to_vec()] };
        let mail_of = |text: &str| mail(line(text), 7);
        let rows = [
            ("1 FETCH (UID 7 BODY[]<0> %)", Some(Some("mail")), "the usual form"),
            ("1 FETCH (BODY[]<0> % UID 7)", Some(Some("mail")), "the other order"),
            ("1 FETCH (FLAGS (\\Seen (UID 9)) UID 7 BODY[]<0> % X \"a)\\\"b\")", Some(Some("mail")), "with flags"),
            ("1 fetch (uid 7 body[] \"short\")", Some(Some("short")), "a quoted string"),
            ("1 FETCH (UID 7 BODY[]<0> NIL)", Some(None), "a mail without a body"),
            ("1 FETCH (UID 8 BODY[]<0> %)", None, "another mail"),
            ("1 FETCH (FLAGS (\\Seen))", None, "flags alone"),
            ("1 FETCH (UID 7 FLAGS ())", None, "flags alone, with the UID"),
            ("1 FETCH (BODY (UID 7) BODY[]<0> %)", None, "a UID inside something else"),
            ("1 FETCH (UID 7 BODY[]<0> %", None, "no end"),
            ("1 FETCH (UID 7 BODY[]<0> \"x", None, "no end of the string"),
            ("1 FETCH (UID 7 BODY[]<0>)", None, "no body"),
            ("x FETCH (UID 7 BODY[]<0> %)", None, "no number"),
            ("5 EXISTS", None, "another answer"),
        ];
        for (text, expected, why) in rows {
            let expected = expected.map(|bytes| bytes.map(|text| text.as_bytes().to_vec()));
            assert_eq!(mail_of(text), expected, "{why}");
        }
        let deep = format!("1 FETCH (X {} UID 7 BODY[] %)", "(".repeat(100_000));
        assert_eq!(mail_of(&deep), None, "a depth that nobody recurses into");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_breaks_the_readers(text in "[ -~\u{0}()\"\\\\日]{0,80}", words in "\\PC{0,40}", count in 0_usize..3) {
            for text in [text.clone(), format!("1 FETCH ({text}"), format!("OK [{text}"), format!("SEARCH {text}")] {
                let _ = mail(Line { text: text.clone(), literals: vec![b"mail".to_vec(); count] }, 7);
                let answer = answer(&[&text, &words], &words);
                let _ = (Folder::read(&answer), found(&answer), capabilities(&answer));
            }
            let name = quoted(&folder_name(&words));
            assert!(name.is_some(), "whatever a folder is called, it can be asked for");
        }
    }

    #[test]
    fn names_are_written_as_servers_read_them() {
        let rows = [
            ("INBOX", "INBOX"),
            ("R&D", "R&-D"),
            // RFC 3501 section 5.1.3's own example.
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("😀", "&2D3eAA-"),
        ];
        for (name, expected) in rows {
            assert_eq!(folder_name(name), expected);
        }
        assert_eq!(quoted("a\"b\\c").as_deref(), Some("\"a\\\"b\\\\c\""));
        assert_eq!((quoted("é"), quoted("a\nb")), (None, None));
    }
}
