//! What a server answers: lines put together to a reply. RFC 5321 section 4.2.
//!
//! Pure. Invariant: a [`Reply`] is whole, all its lines have one code of 200 to 599, and there are at most a hundred.

use std::borrow::Cow;

use super::Trouble;
use crate::mail::outcome::{Enhanced, one_line};

/// The most lines of one reply; the longest EHLO answers have some thirty.
const LINES_MAX: usize = 100;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mail) struct Reply {
    pub(in crate::mail) code: u16,
    /// The lines' texts with line feeds between them: one allocation instead of one a line.
    text: String,
}

impl Reply {
    /// 2xx.
    pub(in crate::mail) fn positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// It refuses, for now or for good: 4xx, 5xx.
    pub(in crate::mail) fn refuses(&self) -> bool {
        self.code >= 400
    }

    /// The texts of its lines; never none.
    pub(in crate::mail) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// All of it on one line.
    pub(in crate::mail) fn text(&self) -> Cow<'_, str> {
        if self.text.contains('\n') { Cow::Owned(self.text.replace('\n', " ")) } else { Cow::Borrowed(&self.text) }
    }

    pub(in crate::mail) fn enhanced(&self) -> Option<Enhanced> {
        Enhanced::parse(self.lines().next()?)
    }

    /// Code and text, fit for logs and the store.
    pub(in crate::mail) fn shown(&self) -> String {
        one_line(&format!("{} {}", self.code, self.text()))
    }
}

/// The lines so far of a reply that is still under way.
#[derive(Debug, Default)]
pub(super) struct Lines {
    code: u16,
    text: String,
    count: usize,
}

impl Lines {
    /// The first one is here.
    pub(super) fn begun(&self) -> bool {
        self.count > 0
    }

    /// Adds a line without its end. `Some`: it was the last one.
    pub(super) fn add(&mut self, line: &str) -> Result<Option<Reply>, Trouble> {
        let (code, more, text) = split_line(line).ok_or(Trouble::Protocol("the reply is not an SMTP reply"))?;
        if self.count > 0 {
            if self.code != code {
                return Err(Trouble::Protocol("the lines of the reply have different codes"));
            }
            self.text.push('\n');
        }
        self.text.push_str(text);
        (self.code, self.count) = (code, self.count + 1);
        if !more {
            return Ok(Some(Reply { code, text: std::mem::take(&mut self.text) }));
        }
        if self.count >= LINES_MAX {
            return Err(Trouble::Protocol("the reply has too many lines"));
        }
        Ok(None)
    }
}

/// `250-text` -> (250, true, text).
fn split_line(line: &str) -> Option<(u16, bool, &str)> {
    let digits = line.get(..3).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let code: u16 = digits.parse().ok()?;
    if !(200..600).contains(&code) {
        return None;
    }
    match line.as_bytes().get(3) {
        None => Some((code, false, "")),
        Some(b' ') => Some((code, false, &line[4..])),
        Some(b'-') => Some((code, true, &line[4..])),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_line_is_three_digits_and_a_separator() {
        let rows = [
            ("250 ok", Some((250, false, "ok"))),
            ("250-ok", Some((250, true, "ok"))),
            ("250", Some((250, false, ""))),
            ("25", None),
            ("2500 x", None),
            ("199 x", None),
            ("600 x", None),
            ("２５０ x", None),
            ("HTTP/1.1 400", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(split_line(line), expected, "{line}");
        }
    }

    #[test]
    fn lines_make_one_reply_or_a_fault() {
        let mut lines = Lines::default();
        assert!(matches!(lines.add("250-"), Ok(None)));
        assert!(matches!(lines.add("250-5.1.1 not the first line"), Ok(None)));
        let reply = lines.add("250 end").unwrap().unwrap();
        assert_eq!(reply.lines().collect::<Vec<_>>(), ["", "5.1.1 not the first line", "end"]);
        assert_eq!((reply.code, reply.text().as_ref()), (250, " 5.1.1 not the first line end"));
        assert_eq!(reply.enhanced(), None, "an enhanced code stands on the first line");
        assert_eq!(reply.shown(), "250 5.1.1 not the first line end");

        let mut lines = Lines::default();
        assert!(matches!(lines.add("250-x"), Ok(None)));
        assert!(matches!(lines.add("550 x"), Err(Trouble::Protocol(_))), "two codes");
        let mut lines = Lines::default();
        let flood = (0..LINES_MAX).map(|_| lines.add("250-x")).find(Result::is_err);
        assert!(flood.is_some(), "a reply without an end");
    }
}
