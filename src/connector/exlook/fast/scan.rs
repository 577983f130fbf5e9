//! Characters -> tags, attributes and texts, for the short way. Strict: what is not plain is [`Irregular`].

use std::borrow::Cow;

use super::elements::element;
use super::{Irregular, Step, Tag};

/// More attributes on one element are for the full parser.
const MAX_ATTRIBUTES: usize = 40;

/// The first place of a byte that is no part of a longer character.
pub fn find(text: &str, byte: u8) -> Option<usize> {
    // Short texts are the rule, and nearer than the crate's own beginning; a view state is what the crate is for.
    let (head, rest) = text.as_bytes().split_at(text.len().min(24));
    let found = head.iter().position(|&b| b == byte);
    found.or_else(|| memchr::memchr(byte, rest).map(|at| head.len() + at))
}

/// The start tag at the beginning, and how long it is.
pub fn start_tag(text: &str) -> Step<(Tag<'_>, usize)> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
        at += 1;
    }
    let (name, is) = element(&text[1..at]).ok_or(Irregular("an unknown element"))?;
    let mut attributes: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    loop {
        let gap = at;
        at = blank_end(bytes, at);
        match bytes.get(at) {
            Some(b'>') => return Ok((Tag { name, is, attributes, closes_itself: false }, at + 1)),
            Some(b'/') if bytes.get(at + 1) == Some(&b'>') => {
                return Ok((Tag { name, is, attributes, closes_itself: true }, at + 2));
            }
            Some(_) if at > gap => {}
            Some(_) => return Err(Irregular("attributes that run together")),
            None => return Err(Irregular("a tag without an end")),
        }
        let (name, value, after) = attribute(text, at)?;
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(Irregular("an element with very many attributes"));
        }
        if attributes.iter().any(|(other, _)| *other == name) {
            return Err(Irregular("an attribute that is there twice"));
        }
        attributes.push((name, value));
        at = after;
    }
}

fn blank_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// An attribute's name and value, and where it ends.
fn attribute(text: &str, start: usize) -> Step<(Cow<'_, str>, Cow<'_, str>, usize)> {
    let bytes = text.as_bytes();
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.');
    let mut at = start;
    let mut upper = false;
    while let Some(b) = bytes.get(at).filter(|b| is_name(b)) {
        upper |= b.is_ascii_uppercase();
        at += 1;
    }
    if at == start {
        return Err(Irregular("an attribute's name that is not plain"));
    }
    let name = &text[start..at];
    let name = if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
    let equals = blank_end(bytes, at);
    if bytes.get(equals) != Some(&b'=') {
        return Ok((name, Cow::Borrowed(""), at));
    }
    let begin = blank_end(bytes, equals + 1);
    match bytes.get(begin) {
        Some(&quote @ (b'"' | b'\'')) => {
            let rest = &text[begin + 1..];
            let end = find(rest, quote).ok_or(Irregular("an attribute without an end"))?;
            Ok((name, decoded(&rest[..end], true)?, begin + 1 + end + 1))
        }
        _ => {
            let plain =
                |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'#' | b'%' | b',');
            let mut end = begin;
            while bytes.get(end).is_some_and(plain) {
                end += 1;
            }
            match bytes.get(end) {
                Some(b) if end > begin && (b.is_ascii_whitespace() || *b == b'>') => {
                    Ok((name, Cow::Borrowed(&text[begin..end]), end))
                }
                _ => Err(Irregular("an attribute's value that is not plain")),
            }
        }
    }
}

/// What stands before the end tag of an element without markup in it, and where that tag ends.
pub fn raw<'a>(text: &'a str, name: &str) -> Step<(&'a str, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("</").map(|at| at + from) {
        let after = &text[at + 2..];
        if after.get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)) {
            let end = blank_end(after.as_bytes(), name.len());
            return match after.as_bytes().get(end) {
                Some(b'>') => Ok((&text[..at], at + 2 + end + 1)),
                _ => Err(Irregular("an end tag that is not plain")),
            };
        }
        from = at + 2;
    }
    Err(Irregular("an element without an end"))
}

/// A text with its entities decoded.
pub fn decoded(raw: &str, in_attribute: bool) -> Step<Cow<'_, str>> {
    let Some(mut mark) = find(raw, b'&') else { return Ok(Cow::Borrowed(raw)) };
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    loop {
        out.push_str(&rest[..mark]);
        rest = &rest[mark + 1..];
        let (c, length) = entity(rest, in_attribute)?;
        out.push(c);
        rest = &rest[length..];
        match find(rest, b'&') {
            Some(next) => mark = next,
            None => {
                out.push_str(rest);
                return Ok(Cow::Owned(out));
            }
        }
    }
}

/// The character that `&` and what follows it stand for, and how long that is.
fn entity(after: &str, in_attribute: bool) -> Step<(char, usize)> {
    let bytes = after.as_bytes();
    if bytes.first().is_some_and(u8::is_ascii_whitespace) {
        return Ok(('&', 0));
    }
    let end = bytes.iter().take(12).position(|b| !b.is_ascii_alphanumeric() && *b != b'#').unwrap_or(0);
    if in_attribute && end > 0 && bytes.get(end) == Some(&b'=') && !after.starts_with('#') {
        return Ok(('&', 0)); // a query's next part
    }
    if bytes.get(end) != Some(&b';') {
        return Err(Irregular("an & that is not plain"));
    }
    let unknown = Irregular("an unknown entity");
    let c = match &after[..end] {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "nbsp" => '\u{a0}',
        "copy" => '©',
        "reg" => '®',
        "laquo" => '«',
        "raquo" => '»',
        "middot" => '·',
        "times" => '×',
        "yen" => '¥',
        number => {
            let digits = number.strip_prefix('#').ok_or(unknown)?;
            let value = match digits.strip_prefix(['x', 'X']) {
                Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16),
                _ if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse(),
                _ => return Err(unknown),
            };
            // The others are replaced, or are controls.
            let plain = |c: &char| matches!(c, ' '..='~' | '\u{a0}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffc}');
            value.ok().and_then(char::from_u32).filter(plain).ok_or(unknown)?
        }
    };
    Ok((c, end + 1))
}
