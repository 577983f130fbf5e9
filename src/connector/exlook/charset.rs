//! Which charset a page is in, and its text; and form fields back into it.
//!
//! The order is a browser's: BOM, HTTP header, the first 1024 bytes' `<meta>`; then what is left to guessing: valid UTF-8,
//! else a detector with Japan in mind (the dearest step, so the last). `shift_jis` is windows-31j throughout (WHATWG).

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, SHIFT_JIS, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// How far a browser looks for `<meta charset>`.
const PRESCAN: usize = 1024;

/// A page's text, and the charset it was in.
#[must_use]
pub fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> (Cow<'a, str>, &'static Encoding) {
    let (encoding, start) = sniff(bytes, content_type);
    let (text, _) = encoding.decode_without_bom_handling(&bytes[start..]);
    (text, encoding)
}

fn sniff(bytes: &[u8], content_type: Option<&str>) -> (&'static Encoding, usize) {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        return (encoding, length);
    }
    if let Some(encoding) = content_type.and_then(header_charset).and_then(named) {
        return (encoding, 0);
    }
    if let Some(encoding) = prescan(&bytes[..bytes.len().min(PRESCAN)]) {
        return (encoding, 0);
    }
    if std::str::from_utf8(bytes).is_ok() {
        return (UTF_8, 0);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    (detector.guess(Some(b"jp"), Utf8Detection::Allow), 0)
}

fn named(label: &str) -> Option<&'static Encoding> {
    let label = label.trim().trim_matches(['"', '\'']);
    if ["cp932", "windows-932", "shift-jis-2004"].iter().any(|l| label.eq_ignore_ascii_case(l)) {
        return Some(SHIFT_JIS); // not among the web's labels, but some servers say so
    }
    Encoding::for_label_no_replacement(label.as_bytes())
}

/// The value of `charset=` in a `Content-Type`.
fn header_charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })
}

/// `<meta charset>` and `<meta http-equiv=content-type>` in the first bytes; comments do not count (WHATWG "prescan").
fn prescan(head: &[u8]) -> Option<&'static Encoding> {
    // All markup is ASCII in every charset that can be named by a `<meta>`.
    let text: String = head.iter().map(|&b| if b.is_ascii() { char::from(b) } else { '\u{fffd}' }).collect();
    let mut rest = text.as_str();
    if let Some(declaration) = rest.strip_prefix("<?xml") {
        let declaration = declaration.split("?>").next().unwrap_or_default();
        if let Some(encoding) = quoted_after(declaration, "encoding").and_then(named) {
            return Some(for_meta(encoding));
        }
    }
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end..]);
            continue;
        }
        if rest.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("<meta")) {
            let attributes = attributes(&rest[5..]);
            if let Some(encoding) = meta_charset(&attributes).and_then(|label| named(&label)) {
                return Some(for_meta(encoding));
            }
        }
        rest = skip_tag(&rest[1..]);
    }
    None
}

/// A `<meta>` that could be read cannot be UTF-16; `x-user-defined` is windows-1252 there.
fn for_meta(encoding: &'static Encoding) -> &'static Encoding {
    if encoding == UTF_16LE || encoding == UTF_16BE {
        UTF_8
    } else if encoding.name() == "x-user-defined" {
        WINDOWS_1252
    } else {
        encoding
    }
}

fn quoted_after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text[text.find(name)? + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split(quote).next()
}

fn meta_charset(attributes: &[(String, String)]) -> Option<String> {
    let get = |name: &str| attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if let Some(charset) = get("charset") {
        return Some(charset.to_owned());
    }
    if !get("http-equiv")?.trim().eq_ignore_ascii_case("content-type") {
        return None;
    }
    let content = get("content")?.to_ascii_lowercase();
    let rest = content[content.find("charset")? + "charset".len()..].trim_start().strip_prefix('=')?.trim_start();
    let label = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].split(quote).next()?,
        _ => rest.split(|c: char| c.is_whitespace() || c == ';').next()?,
    };
    Some(label.to_owned())
}

/// The attributes of the tag whose name has just been read.
fn attributes(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() || rest.starts_with('>') {
            return found;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end.max(1));
        rest = after.trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            (value, rest) = match quote {
                Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
                None => {
                    after.split_at(after.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(after.len()))
                }
            };
        }
        found.push((name.to_ascii_lowercase(), value.to_owned()));
    }
}

fn skip_tag(text: &str) -> &str {
    text.find('>').map_or("", |end| &text[end..])
}

/// A character that the page's charset does not have; the field's name tells where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unencodable {
    /// The charset's name.
    pub charset: &'static str,
    /// The field's place among those sent.
    pub field: usize,
}

/// Form fields as `application/x-www-form-urlencoded` in the page's charset.
///
/// # Errors
/// [`Unencodable`]: browsers send `&#…;` for such a character, which the tool could only misread; we refuse instead.
pub fn encode_form(fields: &[(String, String)], encoding: &'static Encoding) -> Result<String, Unencodable> {
    let encoding = encoding.output_encoding();
    let mut out = String::new();
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push('&');
        }
        let refuse = || Unencodable { charset: encoding.name(), field: at };
        push_encoded(&mut out, name, encoding).ok_or_else(refuse)?;
        out.push('=');
        push_encoded(&mut out, value, encoding).ok_or_else(refuse)?;
    }
    Ok(out)
}

fn push_encoded(out: &mut String, text: &str, encoding: &'static Encoding) -> Option<()> {
    let text = crlf(text);
    let (bytes, _, lossy) = encoding.encode(&text);
    if lossy {
        return None;
    }
    out.extend(url::form_urlencoded::byte_serialize(&bytes));
    Some(())
}

/// Line ends as forms send them.
fn crlf(text: &str) -> String {
    if !text.contains(['\r', '\n']) {
        return text.to_owned();
    }
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}
