//! Which encoding the customers file is in: UTF-8 with or without a byte order mark, or CP932 as Excel in Japan writes it.
//!
//! Decoding is strict: bytes that are no text are reported, never replaced. CP932 is what WHATWG calls Shift_JIS.

use std::io::{self, BufRead};

use encoding_rs::SHIFT_JIS;

/// An encoding a customers file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    Cp932,
}

/// Why the file is in neither encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotText {
    /// A UTF-16 byte order mark: Excel's "Unicode text".
    Utf16,
    /// NUL bytes: UTF-16 without a mark, a spreadsheet, a program.
    Binary,
}

impl std::fmt::Display for NotText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Utf16 => write!(
                f,
                "the file is UTF-16 (Excel's \"Unicode Text\"); save it as \"CSV UTF-8 (Comma delimited)\" instead"
            ),
            Self::Binary => write!(
                f,
                "the file is no text (it holds NUL bytes); save the sheet as \"CSV UTF-8 (Comma delimited)\" instead"
            ),
        }
    }
}

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The encoding, and the bytes without the byte order mark.
pub(super) fn detect(bytes: &[u8]) -> Result<(Charset, &[u8]), NotText> {
    let (charset, mark) = read(&mut &*bytes).expect("memory can always be read")?;
    Ok((charset, &bytes[mark..]))
}

/// The encoding, and how many bytes the byte order mark takes. Reads to the end.
///
/// A file that is not UTF-8 throughout is judged by its lines: one broken line must not turn the names in all others into
/// rubbish that happens to be valid CP932.
pub(super) fn read(source: &mut impl BufRead) -> io::Result<Result<(Charset, usize), NotText>> {
    let (mut marked, mut first) = (false, true);
    let (mut utf8, mut other) = (0_u64, 0_u64);
    let mut line = Vec::new();
    while source.read_until(b'\n', &mut line)? > 0 {
        if first && (line.starts_with(&[0xFF, 0xFE]) || line.starts_with(&[0xFE, 0xFF])) {
            return Ok(Err(NotText::Utf16));
        }
        if line.contains(&0) {
            return Ok(Err(NotText::Binary));
        }
        marked |= first && line.starts_with(MARK);
        match (line.is_ascii(), std::str::from_utf8(&line)) {
            (true, _) => {}
            (false, Ok(_)) => utf8 += 1,
            (false, Err(_)) => other += 1,
        }
        first = false;
        line.clear();
    }
    let charset = if marked || other == 0 || utf8 > other { Charset::Utf8 } else { Charset::Cp932 };
    Ok(Ok((charset, if marked { MARK.len() } else { 0 })))
}

impl Charset {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Cp932 => "CP932 (Shift_JIS)",
        }
    }

    /// The text; `None` if one of the bytes is no part of one.
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Self::Cp932 => {
                SHIFT_JIS.decode_without_bom_handling_and_without_replacement(bytes).map(std::borrow::Cow::into_owned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_told_apart() {
        let (cp932, ..) = SHIFT_JIS.encode("髙橋商店 ① ～ 表ソ能");
        let mut broken_line = "本社,東京都\n支社,大阪府\n".as_bytes().to_vec();
        broken_line.extend_from_slice(b"\x83\x8c\n");
        for (bytes, charset, why) in [
            (&b"a,b\n"[..], Charset::Utf8, "ASCII is UTF-8"),
            ("本社".as_bytes(), Charset::Utf8, "UTF-8"),
            ("\u{feff}本社".as_bytes(), Charset::Utf8, "with a mark"),
            (b"\xEF\xBB\xBF\x83\x8c", Charset::Utf8, "the mark decides, bad bytes or not"),
            (&cp932, Charset::Cp932, "CP932"),
            (&broken_line, Charset::Utf8, "one broken line among UTF-8 lines"),
        ] {
            let (found, rest) = detect(bytes).unwrap();
            assert_eq!(found, charset, "{why}");
            assert!(!rest.starts_with(b"\xEF\xBB\xBF"), "{why}");
        }
        assert_eq!(Charset::Cp932.decode(&cp932).as_deref(), Some("髙橋商店 ① ～ 表ソ能"));
        assert_eq!(Charset::Cp932.decode(b"\x83"), None, "half a character");
        assert_eq!(Charset::Utf8.decode(b"\xe3\x81"), None, "half a character");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert_eq!(detect(b"\xFF\xFEa\0"), Err(NotText::Utf16));
        assert_eq!(detect(b"\xFE\xFF\0a"), Err(NotText::Utf16));
        assert_eq!(detect(b"a\0b\0"), Err(NotText::Binary));
        assert_eq!(detect(b"PK\x03\x04\0\0"), Err(NotText::Binary));
    }
}
