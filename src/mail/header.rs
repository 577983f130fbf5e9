//! Header fields as RFC 5322 and RFC 2047 want them: folded, pure ASCII, encoded words of whole characters.
//!
//! Written here and not by lettre, whose From line with an encoded word is not folded (83 octets measured, 76 allowed) and
//! whose `Address` refuses the old carrier addresses. Invariant: no line that holds an encoded word is longer than 76
//! octets, and no value can break out of its field, because every value is checked for control characters first.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::message::BuildError;
use crate::config::NamedAddress;
use crate::domain::customer::Address;

/// A line with an encoded word has at most 76 octets (RFC 2047 section 2); the other lines keep to it too where they can.
const LINE: usize = 76;
/// An encoded word has at most 75 (RFC 2047 section 2).
const WORD: usize = 75;
/// `=?UTF-8?B?` and `?=`.
const WRAPPING: usize = 12;
/// The longest display name that is written as it is, on one line.
const PLAIN_NAME: usize = 60;

/// The address as SMTP and header fields want it: the local part quoted where it is no dot-atom.
///
/// `foo..bar@docomo.ne.jp` and `foo.@ezweb.ne.jp` are in use, and RFC 5321 4.1.2 and RFC 5322 3.4.1 allow such names only
/// as a quoted string. The carriers take both forms; relays on the way may refuse the raw one, so the correct one is sent.
#[must_use]
pub fn addr_spec(address: &Address) -> String {
    // `Address` admits no character that is neither atext nor a dot, so only the dots decide.
    match address.as_str().rsplit_once('@') {
        Some((local, domain)) if local.split('.').any(str::is_empty) => format!("\"{local}\"@{domain}"),
        _ => address.as_str().to_owned(),
    }
}

/// A header section in the making.
#[derive(Debug, Default)]
pub(super) struct Fields {
    out: String,
}

impl Fields {
    /// The finished lines, without the empty one.
    pub(super) fn finish(self) -> String {
        self.out
    }

    /// A field of tokens that are separated by white space; a line is broken only between them.
    pub(super) fn tokens<S: AsRef<str>>(&mut self, name: &str, tokens: impl IntoIterator<Item = S>) {
        let mut column = name.len() + 1;
        self.out.push_str(name);
        self.out.push(':');
        for (i, token) in tokens.into_iter().enumerate() {
            let token = token.as_ref();
            // The first token stays on the field's own line: a line of the name alone irritates old readers.
            if i > 0 && column + 1 + token.len() > LINE {
                self.out.push_str("\r\n");
                column = 0;
            }
            self.out.push(' ');
            self.out.push_str(token);
            column += 1 + token.len();
        }
        self.out.push_str("\r\n");
    }

    /// A field of free text: Subject.
    pub(super) fn text(&mut self, name: &'static str, text: &str) -> Result<(), BuildError> {
        refuse_control(name, text)?;
        if plain_text(text) {
            self.tokens(name, text.split(' '));
        } else {
            self.tokens(name, encoded_words(text, LINE - name.len() - 2));
        }
        Ok(())
    }

    /// A field of one mailbox with a display name: From, Reply-To.
    pub(super) fn mailbox(&mut self, name: &'static str, mailbox: &NamedAddress) -> Result<(), BuildError> {
        let spec = addr_spec(&mailbox.address);
        let Some(display) = mailbox.name.as_deref().filter(|n| !n.trim().is_empty()) else {
            self.tokens(name, [spec]);
            return Ok(());
        };
        refuse_control(name, display)?;
        let mut tokens = phrase(display, LINE - name.len() - 2);
        tokens.push(format!("<{spec}>"));
        self.tokens(name, tokens);
        Ok(())
    }

    /// A field of bare addresses: To, Cc.
    pub(super) fn addresses(&mut self, name: &str, addresses: &[Address]) {
        let last = addresses.len().saturating_sub(1);
        let item = |(i, a): (usize, &Address)| addr_spec(a) + if i < last { "," } else { "" };
        self.tokens(name, addresses.iter().enumerate().map(item));
    }
}

/// A control character (also U+0080..U+009F and the line separators) would end the field, or be shown as something else.
pub(super) fn refuse_control(field: &'static str, text: &str) -> Result<(), BuildError> {
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(BuildError::Control(field));
    }
    Ok(())
}

/// Whether a text can stand unencoded and come back unchanged through folding and unfolding.
fn plain_text(text: &str) -> bool {
    let word = |w: &str| !w.is_empty() && w.len() <= PLAIN_NAME && w.bytes().all(|b| b.is_ascii_graphic());
    !text.contains("=?") && text.split(' ').all(word)
}

/// A display name: an atom phrase, a quoted string, or encoded words (never those inside quotes: RFC 2047 section 5).
fn phrase(name: &str, first: usize) -> Vec<String> {
    let printable = name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !printable || name.len() > PLAIN_NAME || name.contains("=?") || name.trim() != name {
        return encoded_words(name, first);
    }
    let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    if name.split(' ').all(|w| !w.is_empty() && w.bytes().all(atext)) {
        return vec![name.to_owned()];
    }
    vec![format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))]
}

/// B words of whole characters, each decodable alone; the first has `first` octets at most, the others [`WORD`].
///
/// White space between two words vanishes in reading (RFC 2047 6.2), so every wanted space is inside a word.
fn encoded_words(text: &str, first: usize) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    let mut room = first.min(WORD);
    while !rest.is_empty() {
        let octets = (room - WRAPPING) / 4 * 3;
        let end = rest.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= octets).last();
        // A room is never smaller than a character: the longest field name here leaves 65 octets.
        let (word, later) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(format!("=?UTF-8?B?{}?=", BASE64.encode(word)));
        rest = later;
        room = WORD;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: &str) {
        assert_eq!(addr_spec(&Address::new(address).unwrap()), expected);
    }

    #[test]
    fn a_local_part_that_is_no_dot_atom_is_quoted() {
        check("taro@example.jp", "taro@example.jp");
        check("taro.yamada+x@example.jp", "taro.yamada+x@example.jp");
        check("foo..bar@docomo.ne.jp", "\"foo..bar\"@docomo.ne.jp");
        check("foo.@ezweb.ne.jp", "\"foo.\"@ezweb.ne.jp");
        check(".foo@docomo.ne.jp", "\".foo\"@docomo.ne.jp");
    }

    #[test]
    fn a_display_name_takes_the_simplest_form_that_holds_it() {
        let forms = [
            ("ExLook Support", "ExLook Support"),
            ("ExLook, Inc.", "\"ExLook, Inc.\""),
            ("Say \"hi\"\\", "\"Say \\\"hi\\\"\\\\\""),
            ("=?x?=", "=?UTF-8?B?PT94Pz0=?="),
            (" a", "=?UTF-8?B?IGE=?="),
        ];
        for (name, expected) in forms {
            assert_eq!(phrase(name, 70).join(" "), expected, "{name}");
        }
    }
}
