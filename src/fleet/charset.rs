//! Which encoding the customers file is in: UTF-8 with or without a byte order mark, or CP932 as Excel in Japan writes it.
//!
//! Decoding is strict: bytes that are no text are reported, never replaced. CP932 is what WHATWG calls Shift_JIS.

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

/// The encoding, and the bytes without the byte order mark.
///
/// A file that is not UTF-8 throughout is judged by its lines: one broken line must not turn the names in all others into
/// rubbish that happens to be valid CP932.
pub(super) fn detect(bytes: &[u8]) -> Result<(Charset, &[u8]), NotText> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(NotText::Utf16);
    }
    if bytes.contains(&0) {
        return Err(NotText::Binary);
    }
    if let Some(rest) = bytes.strip_prefix(b"\xEF\xBB\xBF") {
        return Ok((Charset::Utf8, rest));
    }
    if std::str::from_utf8(bytes).is_ok() {
        return Ok((Charset::Utf8, bytes));
    }
    let (utf8, other): (Vec<&[u8]>, Vec<&[u8]>) = bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_ascii())
        .partition(|line| std::str::from_utf8(line).is_ok());
    let charset = if utf8.len() > other.len() { Charset::Utf8 } else { Charset::Cp932 };
    Ok((charset, bytes))
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
